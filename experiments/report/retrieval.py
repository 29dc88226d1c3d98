"""Text-image alignment of emoji by retrieval: is the nearest of all pictures the one that the prompt names?

    top-1, top-5    share of prompts whose picture is the nearest, or one of the five nearest
    figure          share of prompts whose figure the nearest picture shows, in any skin tone
    tone            share of prompts with a skin tone whose tone the nearest picture has

By distance in the space of the flow, top-1 and top-5 also in pixels. Prompts are names of pictures seen in
training, and the held-out pairs of figure and tone. `decoded` are the real pictures after they have passed
through the space, the best that a model of it could draw. Writes evaluation.json and evaluation.png.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float, UInt8

from experiments.report.plots import alignment_over_w
from experiments.report.prompts import Prompts
from experiments.report.tables import print_table, write_json
from jaxflow.data.batches import load
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.devices.blocks import in_blocks
from jaxflow.emoji.names import figure_and_tone
from jaxflow.evaluation.retrieval import nearest
from jaxflow.places import Place
from jaxflow.runs.run import Run
from jaxflow.runs.settings import Setting, columns

Images = UInt8[np.ndarray, "n h w c"]
SPLITS = {"train": "seen", "test": "held out"}
COLUMNS = ("top-1", "top-5", "figure", "tone", "top-1 pixels", "top-5 pixels")
MOST = 5
BLOCK = 32
"""Images that are encoded or decoded together."""


class Gallery:
    """All pictures of a data set with their names, by which generated ones are retrieved."""

    def __init__(self, datasets: Sequence[Dataset], run: Run, sharding: NamedSharding):
        self._space, self._sharding = run.space, sharding
        examples = [example for each in datasets for example in each.examples(range(len(each)))]
        self.names = [example["caption"] for example in examples]
        stored = np.concatenate([load(run.stored(each))[run.space.entry] for each in datasets])
        images = np.stack([example["image"] for example in examples])
        self._features = _flat(self._blocks(run.space.events, stored), images)

    def __call__(self, images: Images, names: Sequence[str]) -> dict[str, float]:
        """The figures of images of these names."""
        found = {
            name: [[self.names[i] for i in row] for row in nearest(features, self._features[name], MOST)]
            for name, features in self._seen(images).items()
        }
        return shares(names, found["events"]) | {
            f"{name} pixels": share for name, share in shares(names, found["pixels"]).items() if "top" in name
        }

    def _seen(self, images: Images) -> dict[str, Float[np.ndarray, "n d"]]:
        return _flat(self._blocks(self._space.encode, images), images)

    def _blocks(self, function: Callable[[Any], Any], images: np.ndarray) -> Any:
        return in_blocks(function, images, size=BLOCK, sharding=self._sharding, name="encode pictures")


def _flat(events: np.ndarray, images: Images) -> dict[str, Float[np.ndarray, "n d"]]:
    features = {"events": events, "pixels": images.astype(np.float32)}
    return {name: each.reshape(len(each), -1) for name, each in features.items()}


def shares(names: Sequence[str], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """The figures, from the names of the pictures found for each prompt, the nearest first.

    >>> found = [["boy dark skin tone", "girl"], ["girl", "boy"]]
    >>> shares(["boy light skin tone", "boy"], found)
    {'top-1': 0.0, 'top-5': 0.5, 'figure': 0.5, 'tone': 0.0}
    """
    first = [(figure_and_tone(name), figure_and_tone(row[0])) for name, row in zip(names, found, strict=True)]
    toned = [(wanted, got) for wanted, got in first if wanted[1] is not None]
    of = lambda hits: float(np.mean(hits)) if len(hits) else float("nan")  # noqa: E731
    return {
        "top-1": of([name == row[0] for name, row in zip(names, found, strict=True)]),
        "top-5": of([name in row[:MOST] for name, row in zip(names, found, strict=True)]),
        "figure": of([wanted[0] == got[0] for wanted, got in first]),
        "tone": of([wanted[1] == got[1] for wanted, got in toned]),
    }


def some(dataset: Dataset, n: int) -> list[int]:
    """Positions of n examples, drawn at random; of all, if there are fewer."""
    return np.sort(np.random.default_rng(5).permutation(len(dataset))[:n]).tolist()


def report(
    out: Place,
    split: Callable[[str], Dataset],
    settings: Sequence[Setting],
    n: int,
    made: dict[str, Any],
    decode: Callable[[Images], Images] | None,
    run: Run,
    sharding: NamedSharding,
) -> Callable[[Callable[..., Images]], None]:
    """Read the pictures of a run; the returned function measures its images and writes the tables."""
    datasets = {name: split(part) for part, name in SPLITS.items()}
    prompts = {name: Prompts(dataset, some(dataset, n)) for name, dataset in datasets.items()}

    def report(generate: Callable[..., Images]) -> None:
        gallery = Gallery(list(datasets.values()), run, sharding)
        table = {
            name: [gallery(generate(each.wanted, setting), each.captions) for setting in settings]
            for name, each in prompts.items()
        }
        references = {}
        if decode is not None:
            decoded = {name: gallery(decode(each.images), each.captions) for name, each in prompts.items()}
            references = {"decoded": decoded}
        counts = {name: len(each.captions) for name, each in prompts.items()}
        if processes.is_first():
            write(out, settings, table, references, counts, len(gallery.names), made)

    return report


def write(
    out: Place,
    settings: Sequence[Setting],
    table: dict[str, list[dict[str, float]]],
    references: dict[str, dict[str, dict[str, float]]],
    counts: dict[str, int],
    pictures: int,
    made: dict[str, Any],
) -> None:
    """Print the tables, and write them as JSON and as curves."""
    for split, rows in table.items():
        print(f"\n{split}: {counts[split]} names, the nearest of {pictures:,} pictures")
        labelled = [
            *zip((setting.name for setting in settings), rows, strict=True),
            *((name, each[split]) for name, each in references.items()),
        ]
        print_table("w", COLUMNS, labelled)
    result = {"names": counts, "pictures": pictures, "sampled": made, **columns(settings), "table": table}
    write_json(out / "evaluation.json", result | references)
    alignment_over_w(settings, table, COLUMNS[:4], out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")
