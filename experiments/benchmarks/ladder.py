"""Quality for equal time of training: variants of a preset, by what they change, and minutes.

    python -m experiments.benchmarks.ladder PRESET --out DIR [--minutes 1 3] [--seeds 0 1 2] [--w 1 2]
        [--variants "" "optimizer=muon learning-rate=1e-3" "network.depthwise" ...] [--data-dir DIR]

A variant is some options of `train` without dashes, "" the preset itself. A short run measures its speed;
the others have the steps that take the minutes at this speed, without compilation. `evaluate` measures
them, and a row has the mean over the seeds with the standard deviation of a seed. `train` goes on with runs
that are there, so that an interrupted ladder loses little. The table is also in DIR/ladder.json,
and as curves over the minutes in DIR/ladder.png.

Let nothing else run, or the same beside all: the speed is that of the machine during the short run.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.cli import refusing, script
from experiments.report.plots import figures_over_minutes
from experiments.report.tables import print_table, write_json
from jaxflow import ranges
from jaxflow.places import place

PROBE = 60
"""Steps of the short run; the first 20, in which the program is compiled, are not counted."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    preset: Annotated[str, tyro.conf.Positional]
    """Its name, or its file."""
    out: str
    """Folder of the runs, the table and its curves."""
    minutes: tuple[float, ...] = (3.0,)
    """Of training."""
    seeds: tuple[int, ...] = (0,)
    """Of the runs that a row averages."""
    w: tuple[float, ...] = (1.0, 2.0)
    """Guidance scales of `evaluate`."""
    variants: tuple[str, ...] = ("",)
    """Options of `train` of each variant, in one argument."""
    data_dir: str | None = None
    """Folder of the prepared data, as of `train`."""
    figures: tuple[str, ...] = ("accuracy", "frechet", "recall", "coverage")
    """Columns of the table, by their names in evaluation.json."""


def main(argv: list[str] | None = None) -> None:
    """Train, measure and print a row for each variant, number of minutes and w."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.ladder")
    with refusing():
        for name in ("minutes", "seeds", "w", "variants", "figures"):
            ranges.not_empty(**{name: getattr(a, name)})
        for minutes in a.minutes:
            ranges.positive(minutes=minutes)
        out = Path(place(a.out, "out"))
    rows = [
        row for variant in a.variants for minutes in a.minutes for row in measured(a, out, variant, minutes)
    ]
    write_json(out / "ladder.json", {"preset": a.preset, "seeds": a.seeds, "rows": rows})
    names = [f"{row['variant'] or a.preset}, {row['minutes']:g} min, w = {row['w']:g}" for row in rows]
    print_table(
        "variant",
        ["steps", "images / s", *a.figures],
        [(name, row["mean"]) for name, row in zip(names, rows, strict=True)],
        [row["deviation"] for row in rows],
    )
    figures_over_minutes(rows, a.figures, a.preset, out / "ladder.png")


def measured(a: Arguments, out: Path, variant: str, minutes: float) -> Iterator[dict[str, Any]]:
    """The rows of a variant after so many minutes, one for each w."""
    probe = train(a, out, variant, 0, PROBE)
    speed = statistics.mean(line["images_per_second"] for line in metrics(probe)[1:])
    batch_size = json.loads((probe / "config.json").read_text())["experiment"]["batch_size"]
    steps = max(1, round(60 * minutes * speed / batch_size))
    tables = [evaluated(a, train(a, out, variant, seed, steps)) for seed in a.seeds]
    for i, w in enumerate(a.w):
        of_seeds = {name: [table[name][i] for table in tables] for name in a.figures}
        mean = {name: statistics.mean(values) for name, values in of_seeds.items()}
        spread = {name: statistics.stdev(v) for name, v in of_seeds.items() if len(v) > 1}
        row = {"variant": variant, "minutes": minutes, "w": w, "deviation": spread}
        yield row | {"mean": {"steps": steps, "images / s": speed} | mean}


def train(a: Arguments, out: Path, variant: str, seed: int, steps: int) -> Path:
    """The run of a variant."""
    run = out / f"{_name(variant)} seed {seed} steps {steps}"
    how = f"--seed {seed} --steps {steps} --log-every 20 --sample-every 0".split()
    call("train", a.preset, "--out", str(run), *how, *data(a), *options(variant))
    return run


def evaluated(a: Arguments, run: Path) -> dict[str, list[float]]:
    """The table of `evaluate` over w."""
    own = ["--preset", a.preset] if a.preset.endswith(".py") else []
    call("evaluate", str(run), *data(a), *own, "--w", *map(str, a.w))
    return json.loads((run / "evaluation.json").read_text())["table"]


def options(variant: str) -> list[str]:
    """Of the command line.

    >>> options("optimizer=muon network.depthwise")
    ['--optimizer', 'muon', '--network.depthwise']
    """
    return [part for option in variant.split() for part in f"--{option}".split("=", 1)]


def data(a: Arguments) -> list[str]:
    """The option of both scripts that says where the data are."""
    return [] if a.data_dir is None else ["--data-dir", a.data_dir]


def metrics(run: Path) -> list[dict[str, float]]:
    """The lines of the run's log."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def call(name: str, *arguments: str) -> None:
    """Run a script, which reports its errors itself.

    Raises:
        SystemExit: it failed; with its exit code.
    """
    print(f"$ {name} {shlex.join(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *arguments], stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(done.returncode)


def _name(variant: str) -> str:
    return "".join(c if c.isalnum() or c in ".=-" else " " for c in variant).strip() or "preset"


if __name__ == "__main__":
    script(main)
