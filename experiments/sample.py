"""Guided images of a trained run: the chapter's figure, and the images as arrays.

    python -m experiments.sample DIR --w 0 1 2 4 [--labels ...] [--per-label N] [--steps N] [--solver NAME]
    python -m experiments.sample DIR --w 1 3 6 --prompt "a red circle" "a blue square" [--negative "..."]

Writes to DIR/samples a grid.png, with a panel per w and in each a row per label or prompt and a row for
null, and a file w=W.npz per w with `images` uint8 (n, h, w, c) and `labels` (n,) or `prompts` (n,). A file of
`export` serves in the place of DIR, and nothing else is read: of NAME.safetensors come NAME-results/samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from experiments.cli import refusing, script
from experiments.devices import Devices
from experiments.report.plots import guidance_grid
from jaxflow.data.conditions import Captions, Classes, stack
from jaxflow.devices import processes
from jaxflow.runs import folder, ranges, run
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.runs.generation import check, generator
from jaxflow.runs.sampler import Sampler
from jaxflow.training.files import whole


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    labels: tuple[int, ...] | None = None
    """Classes by number; all if left out."""
    prompt: tuple[str, ...] = ()
    """What the images shall show, for a run of captions."""
    negative: str | None = None
    """A prompt that guidance leads away from, in the place of the empty one."""
    per_label: int = 10
    """Images of each label or prompt."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    seed: int = 0
    """Of the noise."""
    out: Path | None = None
    """Folder of the images; left out, `samples` in the run folder, or in NAME-results beside a file."""


class Rows(NamedTuple):
    """What is asked for: a row of images for each condition."""

    conditions: Sequence[Any]
    """y of one image, for each row."""
    names: Sequence[str]
    key: str
    """What the rows are called in the files."""
    values: np.ndarray
    """Of each row in the files."""
    negative: Any = None
    """Condition that guidance leads away from, if not from null."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sample")
    with refusing():
        run = folder.open_run(arguments.run)
        check(run.experiment, arguments.w, arguments.sampler, arguments.per_label)
        ranges.given(arguments, "w", "labels")
        ranges.seed(arguments.seed)
        rows = (
            classes_of(run, arguments) if isinstance(run.condition, Classes) else prompts_of(run, arguments)
        )
        mapping = arguments.devices.mapping(run.shapes())
        _, params = folder.newest_params(arguments.run, run, mapping.lay_out(run.shapes()))
        folder = arguments.out or folder.results(arguments.run) / "samples"
        folder.make(folder)

    n = arguments.per_label
    y = stack([condition for condition in (*rows.conditions, run.null) for _ in range(n)])
    generate = generator(
        run,
        mapping.examples,
        sampler=arguments.sampler,
        seed=arguments.seed,
        negative=rows.negative,
    )
    panels = {w: generate(params, y, w) for w in arguments.w}
    if not processes.is_first():
        return
    values = np.repeat(rows.values, n)
    for w, images in panels.items():
        arrays: dict[str, Any] = {"images": images[:-n], rows.key: values}
        with whole(folder / f"w={w:g}.npz") as stream:
            np.savez_compressed(stream, **arrays)
    guidance_grid(panels, [*rows.names, "null"], folder / "grid.png")
    total = n * len(rows.names)
    print(f"{folder / 'grid.png'}\n{folder}/w=*.npz: {total} images for each w in {[*panels]}")


def classes_of(run: run.Run, arguments: Arguments) -> Rows:
    """A row for each class that is asked for."""
    if arguments.prompt or arguments.negative is not None:
        raise ValueError(f"prompt: the run is of the classes {', '.join(run.classes)}; choose by --labels")
    classes = range(len(run.classes)) if arguments.labels is None else arguments.labels
    for i, label in enumerate(classes):
        if not 0 <= label < len(run.classes):
            raise ValueError(f"labels[{i}] = {label}: the classes are 0 to {len(run.classes) - 1}")
    labels = np.array(classes, np.int32)
    return Rows([*labels], [run.classes[label] for label in labels], "labels", labels)


def prompts_of(run: run.Run, arguments: Arguments) -> Rows:
    """A row for each prompt."""
    if arguments.labels is not None:
        raise ValueError("labels: the run is of captions; say what the images shall show with --prompt")
    if not arguments.prompt:
        raise ValueError('prompt is missing: say what the images shall show, --prompt "..." "..."')
    assert isinstance(run.condition, Captions | FrozenText)
    for prompt in (*arguments.prompt, *([arguments.negative] if arguments.negative else [])):
        run.condition.check(prompt)
    conditions = [run.condition.encode(prompt) for prompt in arguments.prompt]
    negative = None if arguments.negative is None else run.condition.encode(arguments.negative)
    return Rows(conditions, arguments.prompt, "prompts", np.array(arguments.prompt), negative)


if __name__ == "__main__":
    script(main)
