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
from typing import Annotated

import tyro
from jax.sharding import NamedSharding

from experiments.cli import refusing, script
from experiments.devices import Devices
from experiments.report import alignment, quality
from experiments.report.plots import curves_over_w
from jaxflow.devices import processes
from jaxflow.runs import folder, ranges
from jaxflow.runs.folder import write_json
from jaxflow.runs.generation import Images, check, generator
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    per_label: int = 100
    """Images of each class."""
    captions: int = 500
    """Captions of each split, for a run of captions."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    seed: int = 1
    """Of the noise and of the judge."""
    judge_steps: int = 500
    """Training steps of the judge."""
    data_dir: str | None = None
    """Folder of the prepared data sets; left out, the one of the training, for a file TFDS_DATA_DIR or
    ~/tensorflow_datasets."""
    out: Path | None = None
    """Folder of the results; left out, the run folder, or NAME-results beside a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.evaluate")
    with refusing():
        run = folder.open_run(arguments.run)
        results = arguments.out or folder.results(arguments.run)
        check(run.experiment, arguments.w, arguments.sampler, arguments.per_label)
        ranges.given(arguments, "w")
        ranges.at_least(1, arguments, "captions", "judge_steps")
        ranges.seed(arguments.seed)
        mapping = arguments.devices.mapping(run.shapes())
        _, params = folder.newest_params(arguments.run, run, mapping.lay_out(run.shapes()))
        if run.experiment.dataset == "shapes":
            report = alignment.report(results, run, arguments.w, arguments.captions, arguments.data_dir)
        else:
            report = report_on_classes(results, run, arguments, mapping.examples)
        folder.make(results)
    generate = generator(run, mapping.examples, sampler=arguments.sampler, seed=arguments.seed)
    report(partial(generate, params))


def report_on_classes(
    results: Path, run: Run, arguments: Arguments, sharding: NamedSharding
) -> Callable[[Images], None]:
    """Read the data of a run of classes; what comes back measures its images and writes the tables."""
    labels = quality.labels_of(run, arguments.per_label)
    real = quality.read(run, arguments.data_dir, len(labels))

    def report(generate: Images) -> None:
        measure = quality.Measure(
            real, labels, seed=arguments.seed, steps=arguments.judge_steps, sharding=sharding
        )
        rows, of_real = [measure(generate(labels, w)) for w in arguments.w], measure.real()
        table = {"w": list(arguments.w)} | {name: [row[name] for row in rows] for name in of_real}
        write(results, table, of_real, len(labels))

    return report


def write(folder: Path, table: dict[str, list[float]], real: dict[str, float], n: int) -> None:
    """Print the table; leave it as JSON and as curves."""
    if not processes.is_first():
        return
    names = list(real)
    print(f"\n{n} images for each w\n{'w':>6}" + "".join(f"{name:>16}" for name in names))
    for i, w in enumerate(table["w"]):
        print(f"{w:>6g}" + "".join(f"{table[name][i]:>16.4g}" for name in names))
    print(f"{'real':>6}" + "".join(f"{real[name]:>16.4g}" for name in names))
    result = {"images_per_w": n, "table": table, "real": real}
    write_json(folder / "evaluation.json", result)
    curves_over_w(table, real, ("frechet", "frechet pixels"), folder / "evaluation.png")
    print(f"{folder / 'evaluation.png'}\n{folder / 'evaluation.json'}")


if __name__ == "__main__":
    script(main)
