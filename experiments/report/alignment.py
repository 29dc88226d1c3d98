"""How well a run's images follow their captions for each w, measured by the reader of the shapes.

Captions of two splits are drawn: `test`, of the same law as the training, and `held_out`, of which each names
or shows a pair of colour and shape that the training never had. Writes evaluation.json and evaluation.png.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.plots import alignment_over_w
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.runs.folder import write_json
from jaxflow.runs.requests import request
from jaxflow.shapes.alignment import CLAIMS, alignment

SPLITS = {"test": "seen", "held_out": "held out"}

Shares = dict[str, float]
"""Share of the captions that are true of their images, for each kind of claim."""


class Captioned:
    """The first n captions of a split and their real images."""

    def __init__(self, dataset: Dataset, n: int):
        examples = dataset.examples(range(min(n, len(dataset))))
        self.captions = [example["caption"] for example in examples]
        self.wanted = request(dataset.codec, self.captions, [dataset.codec.of(e) for e in examples])
        self.real = alignment(np.stack([example["image"] for example in examples]), self.captions)


def report(
    out: Path, split: Callable[[str], Dataset], scales: Sequence[float], n: int, made: dict[str, Any]
) -> Callable[[Callable[..., np.ndarray]], None]:
    """Read the captions of a run; what comes back measures its images and writes the tables."""
    splits = {name: Captioned(split(part), n) for part, name in SPLITS.items()}
    counts = {name: len(split.captions) for name, split in splits.items()}

    def report(generate: Callable[..., np.ndarray]) -> None:
        table = {
            name: [alignment(generate(split.wanted, w), split.captions) for w in scales]
            for name, split in splits.items()
        }
        real = {name: split.real for name, split in splits.items()}
        write(out, scales, table, real, counts, made)

    return report


def write(
    out: Path,
    scales: Sequence[float],
    table: dict[str, list[Shares]],
    real: dict[str, Shares],
    counts: dict[str, int],
    made: dict[str, Any],
) -> None:
    """Print the tables; leave them as JSON and as curves."""
    if not processes.is_first():
        return
    for split, rows in table.items():
        # A figure is left out where no image counts for it.
        names = [name for name in CLAIMS if any(name in row for row in rows)]
        print(f"\n{split}: share of {counts[split]} captions that are true of their images\n{'w':>6}", end="")
        print("".join(f"{name:>12}" for name in names))
        for label, row in [*zip((f"{w:g}" for w in scales), rows, strict=True), ("real", real[split])]:
            print(f"{label:>6}" + "".join(f"{row.get(name, float('nan')):>12.3f}" for name in names))
    result = {"captions": counts, "sampled": made, "w": list(scales), "table": table, "real": real}
    write_json(out / "evaluation.json", result)
    alignment_over_w(scales, table, CLAIMS, out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")
