"""Text-image alignment of a run's samples for each w, measured by the reader of the shapes.

Captions come from two splits: `test`, distributed as in training, and `held_out`, in which each has a pair of
colour and shape that does not occur in training. `decoded` are the real images of a run in latents after its
autoencoder. Writes evaluation.json and evaluation.png.
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
from jaxflow.places import Place
from jaxflow.runs.settings import Setting, columns
from jaxflow.shapes.alignment import CLAIMS, alignment

SPLITS = {"test": "seen", "held_out": "held out"}

Images = UInt8[np.ndarray, "n *image"]
Shares = dict[str, float]
"""Share of captions that are true of their images, for each kind of claim."""


def report(
    out: Place,
    split: Callable[[str], Dataset],
    settings: Sequence[Setting],
    n: int,
    made: dict[str, Any],
    decode: Callable[[Images], Images] | None,
) -> Callable[[Callable[..., Images]], None]:
    """Read the captions of a run; the returned function measures its images and writes the tables."""
    datasets = {name: split(part) for part, name in SPLITS.items()}
    splits = {name: Prompts(each, range(min(n, len(each)))) for name, each in datasets.items()}
    counts = {name: len(each.captions) for name, each in splits.items()}

    def report(generate: Callable[..., Images]) -> None:
        table = {
            name: [alignment(generate(each.wanted, setting), each.captions) for setting in settings]
            for name, each in splits.items()
        }
        real = {name: each.images for name, each in splits.items()}
        decoded = {} if decode is None else {"decoded": {name: decode(each) for name, each in real.items()}}
        references = {
            row: {name: alignment(each, splits[name].captions) for name, each in images.items()}
            for row, images in (decoded | {"real": real}).items()
        }
        write(out, settings, table, references, counts, made)

    return report


def write(
    out: Place,
    settings: Sequence[Setting],
    table: dict[str, list[Shares]],
    references: dict[str, dict[str, Shares]],
    counts: dict[str, int],
    made: dict[str, Any],
) -> None:
    """Print the tables, and write them as JSON and as curves."""
    if not processes.is_first():
        return
    for split, rows in table.items():
        # Claims that no caption makes are omitted.
        names = [name for name in CLAIMS if any(name in row for row in rows)]
        labelled = [
            *zip((setting.name for setting in settings), rows, strict=True),
            *((name, each[split]) for name, each in references.items()),
        ]
        print(f"\n{split}: share of {counts[split]} captions that are true of their images")
        print_table("w", names, labelled)
    result = {"captions": counts, "sampled": made, **columns(settings), "table": table} | references
    write_json(out / "evaluation.json", result)
    alignment_over_w(settings, table, CLAIMS, out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")
