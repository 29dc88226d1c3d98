"""MNIST by what others use, for some minutes on this machine, measured like `evaluate`.

    pip install --no-deps torchcfm pot
    pip install --no-deps hackable_diffusion kauldron && pip install lark    # Python 3.12 or later
    python -m experiments.benchmarks.others lab|torchcfm|hackable [--minutes 10] [--w 1 2] [--data-dir DIR]

`others_torch.py` and `others_jax.py` have their recipes. Each samples images of the same classes by ten Heun
steps, as `evaluate` takes (hackable's last is Euler's and half as long), and is judged by the same
classifier; a row is comparable with that of `evaluate` on a run of `mnist`. The minutes are those of the
processor, divided by the cores that the process may use, so that what else runs does not shorten them;
compilation is not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from experiments.benchmarks.recipes import CLASSES, Other, cores
from experiments.cli import refusing, script
from experiments.report import quality
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.data.datasets import open_dataset
from jaxflow.devices import mesh

FIGURES = ("accuracy", "frechet", "kernel", "precision", "recall", "coverage")


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: Annotated[Literal["lab", "torchcfm", "hackable"], tyro.conf.Positional]
    """Whose network and recipe."""
    minutes: float = 10.0
    """Of training."""
    w: tuple[float, ...] = (1.0,)
    """Guidance scales; only 1 of what has no null class."""
    steps: int = 10
    """Of Heun's method."""
    data_dir: str | None = None
    """Folder of the prepared data, as of `train`."""
    per_label: int = 100
    """Images of each class, on average."""
    judge_steps: int = 500
    """Of the classifier's training, as in `evaluate`."""
    seed: int = 0


def main(argv: list[str] | None = None) -> None:
    """Train, sample, and print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.others")
    with refusing():
        ranges.positive(minutes=a.minutes)
        ranges.at_least(1, steps=a.steps, per_label=a.per_label, judge_steps=a.judge_steps)
        other = _other(a.name, a.seed)
        if not other.guided and set(a.w) != {1.0}:
            raise ValueError(f"w = {a.w}: {a.name} has no null class; only w = 1 is possible")
        real = quality.read(lambda split: open_dataset("mnist", split, a.data_dir))
        labels = quality.labels_of(real, CLASSES, a.per_label)
    print(f"{a.name}: {other.size:,} parameters, {other.by}, {cores()} cores", flush=True)
    begin = time.perf_counter()
    losses = train(other.training(real.train["image"], real.train["y"]), 60 * a.minutes)
    passed = (time.perf_counter() - begin) / 60
    speed = len(losses) * other.batch / 60 / a.minutes
    print(f"{len(losses)} steps of {other.batch} in {a.minutes:g} min, {speed:.1f} images / s")
    print(f"{passed:.1f} min passed, with the compilation")
    print(f"loss {losses[0]:.3f} at first, {np.mean(losses[-20:]):.3f} in the last 20 steps", flush=True)
    judged: Any = {"seed": a.seed, "steps": a.judge_steps, "sharding": mesh.on_one_device()}
    measure = quality.Measure(real, labels, **judged)
    rows = [(f"{w:g}", measure(other.sample(labels, w, a.steps))) for w in a.w]
    rows.append((measure.label, measure.real()))
    halves = [{name: each.half for name, each in row.intervals.items()} for _, row in rows]
    print_table("w", FIGURES, [(name, row.figures) for name, row in rows], halves)


def _other(name: str, seed: int) -> Other:
    # Each needs packages, or a Python, that the other does without.
    if name == "hackable":
        from experiments.benchmarks.others_jax import Hackable

        return Hackable(seed)
    from experiments.benchmarks import others_torch

    return others_torch.RECIPES[name](seed)


def train(step: Callable[[], float], seconds: float) -> list[float]:
    """Train for this time of the processor; the losses, without that of one step before, which compiles."""
    step()
    end, losses = time.process_time() + seconds * cores(), []
    while time.process_time() < end:
        losses.append(step())
    return losses


if __name__ == "__main__":
    script(main)
