"""Guided images of a trained run: the chapter's figure, and the images as arrays.

    python -m experiments.sample DIR --w 0 1 2 4 [--labels ...] [--per-label N] [--steps N] [--solver NAME]

Writes to DIR/samples a grid.png, with a panel per w and in each a row per label and a row for null,
and a file w=W.npz per w with `images` uint8 (n, h, w, c) and `labels` (n,).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments import runs
from experiments.cli import refusing
from experiments.generate import check, generator
from experiments.pictures import guidance_grid


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    labels: tuple[int, ...] | None = None
    """Classes by number; all if left out."""
    per_label: int = 10
    """Images of each label."""
    steps: int = 10
    """Steps of the solver."""
    solver: str = "heun"
    """euler, midpoint, heun, rk4, adams_bashforth2 or dpm_solver_2m."""
    seed: int = 0
    """Of the noise."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sample")
    with refusing():
        run = runs.open_run(arguments.run)
        check(run.experiment, arguments.w, arguments.steps, arguments.solver, arguments.per_label)
        classes = range(run.null) if arguments.labels is None else arguments.labels
        for i, label in enumerate(classes):
            if not 0 <= label < run.null:
                raise ValueError(f"labels[{i}] = {label}: the classes are 0 to {run.null - 1}")
        params = runs.trained_params(arguments.run, run)
        folder = arguments.run / "samples"
        folder.mkdir(exist_ok=True)

    n = arguments.per_label
    labels = np.repeat(np.array([*classes, run.null], np.int32), n)
    generate = generator(run, params, steps=arguments.steps, solver=arguments.solver, seed=arguments.seed)
    panels = {w: generate(labels, w) for w in arguments.w}
    for w, images in panels.items():
        np.savez_compressed(folder / f"w={w:g}.npz", images=images[:-n], labels=labels[:-n])
    names = [*(run.class_names[label] for label in classes), "null"]
    guidance_grid(panels, names, folder / "grid.png")
    print(f"{folder / 'grid.png'}\n{folder}/w=*.npz: {len(labels) - n} images for each w in {[*panels]}")


if __name__ == "__main__":
    main()
