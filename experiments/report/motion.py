"""What a run's clips of moving shapes show, for each w, measured by the reader of the clips.

    claims         share of captions that are true of their clips, by kind; seen and held-out combinations
    persistence    share of frames in which all objects of a clip are seen, or hidden behind another
    path           error in pixels of the paths that continue the first frames of real clips, frame by frame
    frechet        Frechet distance to real clips in features of a classifier of clips; its floor is that of
                   other real clips

Beside them stand real clips, and three controls that a measure of motion must notice: real clips with their
frames shuffled, frozen at the first, and played backwards. `decoded` are the real clips of a run in latents
after its autoencoder. Writes evaluation.json and evaluation.png.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from experiments.report.plots import alignment_over_w
from experiments.report.prompts import Prompts
from experiments.report.tables import print_table, write_json
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.evaluation.intervals import Measured
from jaxflow.moving_shapes.alignment import CLAIMS, alignment
from jaxflow.moving_shapes.reader import path_error, read
from jaxflow.places import Place
from jaxflow.runs.edits import continuing
from jaxflow.runs.requests import Request
from jaxflow.runs.settings import Setting, columns
from jaxflow.spaces import Space

SPLITS = {"test": "seen", "held_out": "held out"}
GIVEN = 4
"""First frames of a real clip from which its paths are continued."""

Clips = UInt8[np.ndarray, "n f h w c"]
Draw = Callable[..., Clips]
Figures = dict[str, float]


def shuffled(clips: Clips) -> Clips:
    """Frames in random order, another for each clip."""
    order = np.random.default_rng(7).permuted(np.tile(np.arange(clips.shape[1]), (len(clips), 1)), axis=1)
    return clips[np.arange(len(clips))[:, None], order]


def frozen(clips: Clips) -> Clips:
    """The first frame throughout."""
    return np.repeat(clips[:, :1], clips.shape[1], axis=1)


def backwards(clips: Clips) -> Clips:
    """The last frame first."""
    return clips[:, ::-1]


CONTROLS: dict[str, Callable[[Clips], Clips]] = {
    "shuffled": shuffled,
    "frozen": frozen,
    "backwards": backwards,
}


def report(
    out: Place,
    split: Callable[[str], Dataset],
    settings: Sequence[Setting],
    n: int,
    made: dict[str, Any],
    decode: Callable[[Clips], Clips] | None,
    space: Space,
    wanted: Request,
    classifier: Callable[[], Any],
) -> Callable[[Draw], None]:
    """Read the captions of a run; the returned function measures its clips and writes the tables.

    Args:
        out: folder of the results.
        split: opens a split of the data by its name.
        settings: of the clips that are compared.
        n: captions of each split.
        made: how clips are sampled, to be stored.
        decode: clips as they come back from the space of the flow; None if it loses nothing.
        space: of the flow.
        wanted: the clips whose features are compared.
        classifier: trains it; a `report.captioned.Measure`.
    """
    prompts = {name: Prompts(each := split(part), range(min(n, len(each)))) for part, name in SPLITS.items()}

    def report(generate: Draw) -> None:
        measure = classifier()
        references = CONTROLS if decode is None else {"decoded": decode} | CONTROLS
        tables = {
            name: of_split(each, generate, settings, {"real": np.asarray} | references, space)
            for name, each in prompts.items()
        }
        features = {setting.name: measure(generate(wanted, setting)) for setting in settings}
        features |= {name: measure.decoded(change)[0] for name, change in references.items()}
        features["real"] = measure.real()
        if processes.is_first():
            write(
                out,
                settings,
                tables,
                features,
                measure.balance,
                {name: len(each.captions) for name, each in prompts.items()},
                made,
            )

    return report


def of_split(
    prompts: Prompts,
    generate: Draw,
    settings: Sequence[Setting],
    references: dict[str, Callable[[Clips], Clips]],
    space: Space,
) -> dict[str, Figures]:
    """The figures of a split: a row for each w, and for each way to change real clips."""
    beginning = continuing(space, prompts.images[:, :GIVEN])
    rows = {}
    for setting in settings:
        rows[setting.name] = figures(generate(prompts.wanted, setting), prompts.captions)
        if setting.calls is None:  # a map jumps from noise alone
            continued = generate(prompts.wanted, setting, edit=beginning)
            rows[setting.name]["path"] = path_errors(continued, prompts.images)
    for name, change in references.items():
        clips = change(prompts.images)
        rows[name] = figures(clips, prompts.captions) | {"path": path_errors(clips, prompts.images)}
    return rows


def figures(clips: Clips, captions: Sequence[str]) -> Figures:
    """The shares of true claims, and the persistence of the objects."""
    persistence = float(np.mean([read(clip).persistence for clip in clips]))
    return alignment(clips, captions) | {"persistence": persistence}


def path_errors(clips: Clips, real: Clips) -> float:
    """The median distance in pixels of an object's path from that in a real clip, after the frames `GIVEN`.

    It is infinite where no object of its colour is seen; of several, the nearest counts.
    """
    errors = []
    for clip, other in zip(clips, real, strict=True):
        seen = read(clip).objects
        for o in read(other).objects:
            paths = [np.array(s.centres)[GIVEN:] for s in seen if s.colour == o.colour]
            own = np.array(o.centres)[GIVEN:]
            errors.append(min((path_error(own, path) for path in paths), default=np.inf))
    return float(np.median(errors))


def write(
    out: Place,
    settings: Sequence[Setting],
    tables: dict[str, dict[str, Figures]],
    features: dict[str, Measured],
    balance: str,
    counts: dict[str, int],
    made: dict[str, Any],
) -> None:
    """Print the tables, and write them as JSON and as curves."""
    for split, rows in tables.items():
        names = [
            name for name in (*CLAIMS, "persistence", "path") if any(name in row for row in rows.values())
        ]
        print(f"\n{split}: share of {counts[split]} captions that are true of their clips")
        print_table("w", names, [*rows.items()])
    print(f"\nfeatures of a classifier of clips; for each w {balance}")
    print_table("w", [*features["real"].figures], [(name, each.figures) for name, each in features.items()])
    result = columns(settings) | {"captions": counts, "sampled": made, "table": tables}
    result["features"] = {name: each.figures for name, each in features.items()}
    result["intervals"] = {name: each.intervals for name, each in features.items()}
    write_json(out / "evaluation.json", result)
    curves = {split: [rows[setting.name] for setting in settings] for split, rows in tables.items()}
    alignment_over_w(settings, curves, CLAIMS, out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")
