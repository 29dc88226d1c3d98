"""How good a run's images are for each w, beside real images.

    python -m experiments.evaluate DIR [--w 0 1 2 4] [--per-label N]

The columns are those of `experiments/report/quality.py`, and the line `real` has what real images get.

A run of `shapes` has captions instead of classes: the reader of its scenes says which claims of a caption are
true of its image, see `experiments/report/alignment.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report import alignment, quality
from experiments.report.plots import curves_over_w
from jaxflow import ranges
from jaxflow.devices import processes
from jaxflow.runs import folder
from jaxflow.runs.requests import request
from jaxflow.runs.sampler import Sampler


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    per_label: int = 100
    """Images of each class."""
    captions: int = 500
    """Captions of each split, for a run of captions."""
    rule: str = "classifier_free"
    """Of guidance: classifier_free, interval, increasing, rescaled, projected, zero_star, rectified,
    classifier or autoguidance."""
    sigma: float = 0.0
    """Diffusion coefficient; 0 is the ODE, with another the SDE is sampled."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 1
    """Of the noise and of the judge."""
    judge_steps: int = 500
    """Training steps of the judge."""
    out: Path | None = None
    """Folder of the results; left out, the run folder, or NAME-results beside a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.evaluate")
    with refusing():
        ranges.given(w=arguments.w)
        ranges.at_least(1, per_label=arguments.per_label, captions=arguments.captions)
        ranges.at_least(1, judge_steps=arguments.judge_steps)
        ranges.seed(arguments.seed)
        opened = open_model(arguments.model, arguments.source)
        how = (arguments.sampler, arguments.rule, arguments.sigma)
        opened.check(*how, arguments.w)
        out = arguments.out or folder.results(arguments.model)
        made = opened.described(*how, arguments.seed)
        if opened.run.experiment.dataset == "shapes":
            report = alignment.report(out, opened.split, arguments.w, arguments.captions, made)
        else:
            report = report_on_classes(out, opened, arguments, made)
        opened = opened.read()
        folder.make(out)
        generate = opened.generator(*how, opened.classifier(arguments.rule, arguments.seed))
    report(partial(generate, seed=arguments.seed))


def report_on_classes(
    out: Path, opened: Opened, arguments: Arguments, made: dict[str, Any]
) -> Callable[[Callable[..., quality.Images]], None]:
    """Read the data of a run of classes; what comes back measures its images and writes the tables."""
    labels = quality.labels_of(opened.model, arguments.per_label)
    real = quality.read(opened.split, len(labels))

    def report(generate: Callable[..., quality.Images]) -> None:
        measure = quality.Measure(
            real,
            labels,
            seed=arguments.seed,
            steps=arguments.judge_steps,
            sharding=opened.placement.examples,
        )
        wanted = request(opened.model.codec, labels.tolist())
        rows, of_real = [measure(generate(wanted, w)) for w in arguments.w], measure.real()
        table = {"w": list(arguments.w)} | {name: [row[name] for row in rows] for name in of_real}
        write(out, table, of_real, len(labels), made)

    return report


def write(
    out: Path, table: dict[str, list[float]], real: dict[str, float], n: int, made: dict[str, Any]
) -> None:
    """Print the table; leave it as JSON and as curves."""
    if not processes.is_first():
        return
    names = list(real)
    print(f"\n{n} images for each w\n{'w':>6}" + "".join(f"{name:>16}" for name in names))
    for i, w in enumerate(table["w"]):
        print(f"{w:>6g}" + "".join(f"{table[name][i]:>16.4g}" for name in names))
    print(f"{'real':>6}" + "".join(f"{real[name]:>16.4g}" for name in names))
    result = {"images_per_w": n, "sampled": made, "table": table, "real": real}
    folder.write_json(out / "evaluation.json", result)
    curves_over_w(table, real, ("frechet", "frechet pixels"), out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")


if __name__ == "__main__":
    script(main)
