"""Guidance rules compared: every rule at every scale w, one compiled program for each rule.

    python -m experiments.sweep MODEL [--rules ...] [--w 1 1.25 1.5 2 3 5 8 12] [--sigma 0] [--worse DIR]

All settings start from the same noise and get the figures of `experiments/report/quality.py`. The rules are
those of `jaxflow/runs/rules.py`: `autoguidance` needs --worse, a less trained run on the same data;
`classifier` trains its classifier of noisy images first. With a --sigma other than 0 the SDE is sampled.

Writes sweep.json, all settings, and sweep.png, curves over w; prints what samples the best of all.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report import quality
from experiments.report.plots import rules_over_w
from jaxflow import ranges
from jaxflow.devices import processes
from jaxflow.runs import folder
from jaxflow.runs.requests import request
from jaxflow.runs.rules import RULES
from jaxflow.runs.sampler import Sampler


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)
    """Guidance scales."""
    sigma: tuple[float, ...] = (0.0,)
    """Diffusion coefficients; 0 alone is the ODE. With another one all settings are sampled as an SDE."""
    rules: tuple[str, ...] | None = None
    """Guidance rules by name; all that can run if left out."""
    per_label: int = 100
    """Images of each class."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    chunk: int = 1
    """Settings that are computed together; more fill a large device."""
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 1
    """Of the noise and of the classifiers."""
    judge_steps: int = 500
    """Training steps of the judge."""
    out: Path | None = None
    """Folder of the results; left out, the run folder, or NAME-results beside a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sweep")
    with refusing():
        check(arguments)
        opened = open_model(arguments.model, arguments.source)
        labels, names = quality.labels_of(opened.model, arguments.per_label), rules_of(arguments, opened)
        for name in names:
            opened.check(arguments.sampler, name, max(arguments.sigma), arguments.w)
        real = quality.read(opened.split, len(labels))
        out = arguments.out or folder.results(arguments.model)
        opened = opened.read()
        folder.make(out)

    measure = quality.Measure(
        real, labels, seed=arguments.seed, steps=arguments.judge_steps, sharding=opened.placement.examples
    )
    wanted = request(opened.model.codec, labels.tolist())
    rows = []
    for name in names:
        log_prob = opened.classifier(name, arguments.seed)
        generate = opened.generator(arguments.sampler, name, max(arguments.sigma), log_prob)
        images = generate.sweep(
            wanted, arguments.w, arguments.sigma, seed=arguments.seed, chunk=arguments.chunk
        )
        for i, w in enumerate(arguments.w):
            for j, sigma in enumerate(arguments.sigma):
                rows.append({"rule": name, "w": w, "sigma": sigma} | measure(images[i, j]))
                figures = "  ".join(
                    f"{column} {rows[-1][column]:.4g}" for column in rows[-1] if column != "rule"
                )
                print(f"{name:16} {figures}")
    write(out, rows, measure.real(), len(labels), arguments, opened)


def check(arguments: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    ranges.given(w=arguments.w, sigma=arguments.sigma, rules=arguments.rules)
    ranges.at_least(1, per_label=arguments.per_label, chunk=arguments.chunk)
    ranges.at_least(1, judge_steps=arguments.judge_steps)
    ranges.seed(arguments.seed)
    for sigma in arguments.sigma:
        ranges.not_negative(sigma=sigma)


def rules_of(arguments: Arguments, opened: Opened) -> tuple[str, ...]:
    """The rules asked for, or all that can run."""
    return arguments.rules or tuple(name for name in RULES if opened.worse or name != "autoguidance")


def command(arguments: Arguments, opened: Opened, row: dict) -> str:
    """What samples the images of a setting again."""
    sampler, source = arguments.sampler, arguments.source
    solver = sampler.solver_name(opened.model.prediction, max(arguments.sigma))
    options = {
        **{"w": repr(row["w"]), "rule": row["rule"], "solver": solver, "sigma": repr(row["sigma"])},
        **{"steps": sampler.steps, "grid": sampler.grid, "shift": repr(sampler.shift)},
        **{"seed": arguments.seed, "per-label": arguments.per_label},
        **{"preset": source.preset, "data-dir": source.data_dir},
        "worse": source.worse if row["rule"] == "autoguidance" else None,
        "classifier-steps": source.classifier_steps if row["rule"] == "classifier" else None,
    }
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return " ".join(["python -m experiments.sample", shlex.quote(str(arguments.model)), *given])


def write(
    out: Path,
    rows: Sequence[dict],
    real: dict[str, float],
    n: int,
    arguments: Arguments,
    opened: Opened,
) -> None:
    """Print each rule at its best, and what samples the best of all; leave all as JSON and as curves."""
    if not processes.is_first():
        return
    best: dict[str, dict] = {}
    for row in rows:
        if row["rule"] not in best or row["frechet"] < best[row["rule"]]["frechet"]:
            best[row["rule"]] = row
    columns = [name for name in rows[0] if name != "rule"]
    print(f"\neach rule at its best, by the Frechet distance in features; {n} images a setting")
    print(f"{'rule':16}" + "".join(f"{name:>16}" for name in columns))
    for name, row in best.items():
        print(f"{name:16}" + "".join(f"{row[column]:>16.4g}" for column in columns))
    print(f"{'real':16}" + "".join(f"{real[c]:>16.4g}" if c in real else " " * 16 for c in columns))
    again = command(arguments, opened, min(best.values(), key=lambda row: row["frechet"]))
    result = {"images_per_setting": n, "settings": list(rows), "best": best, "real": real, "command": again}
    folder.write_json(out / "sweep.json", result)
    rules_over_w(rows, real, out / "sweep.png")
    print(f"{out / 'sweep.png'}\n{out / 'sweep.json'}\nthe best of all: {again}")


if __name__ == "__main__":
    script(main)
