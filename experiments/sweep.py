"""Guidance rules compared: every rule at every scale w, one compiled program for each rule.

    python -m experiments.sweep DIR [--rules ...] [--w 1 1.25 1.5 2 3 5 8 12] [--sigma 0] [--worse DIR]

All settings start from the same noise and get the figures of `experiments/report/quality.py`. The rules are those of
`jaxflow/runs/rules.py`: `autoguidance` needs --worse, a less trained run on the same data; `classifier` trains
its classifier of noisy images first. With a --sigma other than 0 the SDE is sampled.

Writes sweep.json, all settings, and sweep.png, curves over w.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import NamedSharding

from experiments.cli import refusing, script
from experiments.devices import Devices
from experiments.report import quality
from experiments.report.plots import rules_over_w
from jaxflow import per_example, sampling, sweeps
from jaxflow.data.images import to_float, to_uint8
from jaxflow.devices import processes
from jaxflow.devices.blocks import in_blocks
from jaxflow.devices.parallel import Mapping
from jaxflow.runs import folder, ranges, run
from jaxflow.runs.folder import write_json
from jaxflow.runs.generation import check
from jaxflow.runs.rules import RULES, Models
from jaxflow.runs.sampler import Sampler
from jaxflow.training.noisy_classifier import LogProb, train_noisy_classifier
from jaxflow.training.step import Params


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)
    """Guidance scales."""
    sigma: tuple[float, ...] = (0.0,)
    """Diffusion coefficients; 0 alone is the ODE. With another one all settings are sampled as an SDE, by the
    steps of Euler and Maruyama."""
    rules: tuple[str, ...] | None = None
    """Guidance rules by name; all that can run if left out."""
    worse: Path | None = None
    """A less trained run on the same data, for autoguidance."""
    per_label: int = 100
    """Images of each class."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    block: int = 250
    """Images that are made together."""
    chunk: int = 1
    """Settings that are computed together; more fill a large device."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    seed: int = 1
    """Of the noise and of the classifiers."""
    judge_steps: int = 500
    """Training steps of the judge."""
    classifier_steps: int = 1500
    """Training steps of the classifier of noisy images."""
    data_dir: str | None = None
    """Folder of the prepared data sets; left out, the one of the training, for a file TFDS_DATA_DIR or
    ~/tensorflow_datasets."""
    out: Path | None = None
    """Folder of the results; left out, the run folder, or NAME-results beside a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sweep")
    with refusing():
        run = folder.open_run(arguments.run)
        results = arguments.out or folder.results(arguments.run)
        check(run.experiment, arguments.w, arguments.sampler, arguments.per_label)
        labels = quality.labels_of(run, arguments.per_label)
        names = chosen_rules(arguments)
        mapping = arguments.devices.mapping(run.shapes())
        _, params = folder.newest_params(arguments.run, run, mapping.lay_out(run.shapes()))
        worse = worse_model(arguments.worse, run, mapping)
        real = quality.read(run, arguments.data_dir, len(labels))
        folder.make(results)

    measure = quality.Measure(
        real, labels, seed=arguments.seed, steps=arguments.judge_steps, sharding=mapping.examples
    )
    log_prob = None
    if "classifier" in names:
        log_prob = train_noisy_classifier(
            jax.random.fold_in(jax.random.key(arguments.seed), 1),
            run.experiment.path,
            to_float(jnp.asarray(real.train["image"])),
            jnp.asarray(real.train["y"]),
            len(run.classes),
            steps=arguments.classifier_steps,
        )

    rows = []
    for name in names:
        images = swept_images(arguments, run, mapping.examples, params, worse, log_prob, name, labels)
        for i, w in enumerate(arguments.w):
            for j, sigma in enumerate(arguments.sigma):
                rows.append({"rule": name, "w": w, "sigma": sigma} | measure(images[i, j]))
                figures = "  ".join(
                    f"{column} {rows[-1][column]:.4g}" for column in rows[-1] if column != "rule"
                )
                print(f"{name:16} {figures}")
    write(results, rows, measure.real(), len(labels))


def chosen_rules(arguments: Arguments) -> tuple[str, ...]:
    """The rules asked for, checked with all other arguments."""
    names = arguments.rules or tuple(name for name in RULES if name != "autoguidance" or arguments.worse)
    for name in names:
        if name not in RULES:
            raise ValueError(f"rules = {name!r}: there are {', '.join(RULES)}")
    if "autoguidance" in names and arguments.worse is None:
        raise ValueError("rules = 'autoguidance': it needs --worse, a less trained run on the same data")
    for sigma in arguments.sigma:
        if not isfinite(sigma) or sigma < 0:
            raise ValueError(f"sigma = {sigma}: the diffusion coefficient must be finite and not negative")
    ranges.given(arguments, "w", "sigma", "rules")
    if any(arguments.sigma) and arguments.sampler.solver is not None:
        raise ValueError(
            f"solver = {arguments.sampler.solver!r}: the SDE has the steps of Euler and Maruyama; leave out"
            " --solver, or --sigma for the ODE"
        )
    ranges.at_least(1, arguments, "block", "chunk", "judge_steps", "classifier_steps")
    ranges.seed(arguments.seed)
    return names


def worse_model(folder: Path | None, run: run.Run, mapping: Mapping) -> tuple[run.Run, Params] | None:
    """The run of the worse model and its parameters."""
    if folder is None:
        return None
    worse = folder.open_run(folder)
    if not run.fits(worse.condition, worse.image_shape):
        raise ValueError(f"worse = {folder}: it was trained on other data, {worse.experiment.dataset}")
    return worse, folder.newest_params(folder, worse, mapping.lay_out(worse.shapes()))[1]


def swept_images(
    arguments: Arguments,
    run: run.Run,
    sharding: NamedSharding,
    params: Params,
    worse: tuple[run.Run, Params] | None,
    log_prob: LogProb | None,
    name: str,
    labels: np.ndarray,
) -> np.ndarray:
    """Images of each label at each setting of a rule, uint8 (w, sigma, n, h, w, c), by one program."""
    path, grid = run.experiment.path, arguments.sampler.times(run.experiment)
    solver = arguments.sampler.method(run.experiment)
    scales, sigmas = (jnp.asarray(values, jnp.float32) for values in (arguments.w, arguments.sigma))
    deterministic = not any(arguments.sigma)

    @jax.jit
    def program(params, worse_params, numbers, labels):
        keys = per_example.numbered(jax.random.key(arguments.seed), numbers)
        noise = per_example.normal(keys, run.image_shape)
        worse_field = worse[0].field(worse_params) if worse else None
        models = Models(run.field(params), path, run.null, arguments.sampler.steps, worse_field, log_prob)

        def at(w, sigma):
            guided = RULES[name](models, labels, w)
            if deterministic:
                images = sampling.sample_ode(guided, noise, grid, solver=solver)
            else:
                walk_keys = per_example.fold_in(keys, 1)
                images = sampling.sample_sde(walk_keys, guided, path, noise, grid, sigma=sigma)
            return to_uint8(images), jnp.all(jnp.isfinite(images), axis=(1, 2, 3))

        swept = sweeps.sweep(at, {"w": scales, "sigma": sigmas}, chunk=arguments.chunk)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 2, 0), swept)  # images first, as in all blocks

    images, finite = in_blocks(
        lambda block: program(params, worse and worse[1], *block),
        (np.arange(len(labels)), labels),
        size=arguments.block,
        sharding=sharding,
        name=name,
    )
    check_finite(name, arguments, finite.all(axis=0))
    return np.moveaxis(images, 0, 2)


def check_finite(name: str, arguments: Arguments, finite: np.ndarray) -> None:
    """Raise a FloatingPointError that names the settings (w, sigma) whose images are not finite."""
    where = [(arguments.w[i], arguments.sigma[j]) for i, j in np.argwhere(~finite)]
    if where:
        raise FloatingPointError(f"{name}: images are not finite at (w, sigma) = {where}; more --steps help")


def write(folder: Path, rows: Sequence[dict], real: dict[str, float], n: int) -> None:
    """Print each rule at its best setting; leave all settings as JSON and as curves."""
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
    result = {"images_per_setting": n, "settings": list(rows), "best": best, "real": real}
    write_json(folder / "sweep.json", result)
    rules_over_w(rows, real, folder / "sweep.png")
    print(f"{folder / 'sweep.png'}\n{folder / 'sweep.json'}")


if __name__ == "__main__":
    script(main)
