"""Guided images of a trained run: the chapter's figure, and the images as arrays.

    python -m experiments.sample MODEL --w 0 1 2 4 [--labels ...] [--steps N] [--rule NAME] [--solver NAME]
    python -m experiments.sample MODEL --w 1 3 6 --prompt "a red circle" "a blue square" [--negative "..."]
    python -m experiments.sample MODEL --describe

Writes to MODEL/samples a grid.png, with a panel per w, in each a row per label or prompt and an unconditional
row, and a file w=W.npz per w with `images` uint8 (n, h, w, c) and `labels` (n,) or `prompts` (n,). MODEL is a
run folder, or a file NAME.safetensors from `export`, which needs no other file; its samples go to
NAME-results/samples.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments import notes
from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report.plots import check_page, guidance_grid, scale_name
from jaxflow import ranges
from jaxflow.data.codecs import Classes
from jaxflow.devices import processes
from jaxflow.places import Place, place
from jaxflow.runs import folder, limits
from jaxflow.runs.model import Model
from jaxflow.runs.requests import ClassOrPrompt, Request, encode, request
from jaxflow.runs.sampler import Sampler
from jaxflow.training.files import atomic_write

MOST_SCALES, MOST_ROWS = 100, 1000
"""Panels of a page, and their rows without the unconditional one."""
OVERHEAD = 100
"""Bytes of a request, per image."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[str]
    """The run folder, or a file from experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    labels: tuple[str, ...] | None = None
    """Classes by name or number; if omitted, all."""
    prompt: tuple[str, ...] = ()
    """Prompts, for a run trained on captions."""
    negative: str | None = None
    """A class or prompt to guide away from, instead of null."""
    per_label: int = 10
    """Images per label or prompt."""
    rule: str = "classifier_free"
    """Guidance rule: classifier_free, interval, increasing, rescaled, projected, zero_star, rectified,
    classifier or autoguidance."""
    sigma: float = 0.0
    """Diffusion coefficient of the SDE; 0 is the ODE."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 0
    """Seed of the noise."""
    out: str | None = None
    """Folder for the images; if omitted, `samples` in the run folder, or in NAME-results next to a file."""
    describe: bool = False
    """Print a description of the model with all its classes or words, without sampling."""


class Rows(NamedTuple):
    """The rows of images, one per label or prompt."""

    said: Sequence[ClassOrPrompt]
    names: Sequence[str]
    key: str
    """Name of the array of conditions in the files."""
    values: np.ndarray
    """The condition of each row in the files."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sample")
    with refusing():
        check(arguments)
        model = place(arguments.model, "MODEL")
        opened = open_model(model, arguments.source)
        how = (arguments.sampler, arguments.rule, arguments.sigma)
        opened.check(*how, arguments.w)
        if arguments.describe:
            described = opened.run, opened.read().model, arguments.sampler, arguments.sigma
            print(notes.description(*described))
            return
        rows, negative = rows_of(opened.model, arguments), negative_of(opened.model, arguments.negative)
        wanted = wanted_of(opened.model, rows, arguments)
        away = None if negative is None else encode(opened.model.codec, negative)
        default = folder.results(model) / "samples"
        out = default if arguments.out is None else place(arguments.out, "out")
        opened = opened.read()
        folder.make(out)
        generate = opened.generator(*how, opened.classifier(arguments.rule, arguments.seed))
    say(opened, rows, arguments, negative)
    panels = {w: generate(wanted, w, seed=arguments.seed, negative=away) for w in arguments.w}
    if processes.is_first():
        write(out, panels, rows, arguments.per_label)


def check(arguments: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    ranges.not_empty(w=arguments.w)
    if arguments.labels == ():
        raise ValueError("labels = (): expected names or numbers of classes; --describe lists them")
    ranges.at_least(1, per_label=arguments.per_label)
    if len(arguments.w) > MOST_SCALES:
        raise ValueError(f"w: {len(arguments.w)} scales, must be at most {MOST_SCALES}: sample them in parts")
    if len(set(arguments.w)) < len(arguments.w):
        twice = next(w for i, w in enumerate(arguments.w) if w in arguments.w[:i])
        raise ValueError(
            f"w = {twice:g}: given twice, and would be written to one file; give each scale once"
        )
    ranges.seed(arguments.seed)


def say(opened: Opened, rows: Rows, arguments: Arguments, negative: ClassOrPrompt) -> None:
    """Print what is sampled, and on standard error which options have no effect."""
    if not processes.is_first():
        return
    print(notes.summary(opened.run, opened.model))
    asked = rows.said if arguments.labels or arguments.prompt else ()
    codec, sampler, rule = opened.model.codec, arguments.sampler, arguments.rule
    effects = notes.without_effect(codec, sampler, rule, arguments.w, asked, negative)
    for line in (*effects, *opened.source.without_effect(rule)):
        print(f"note: {line}", file=sys.stderr)


def wanted_of(model: Model, rows: Rows, arguments: Arguments) -> Request:
    """The request for all rows and an unconditional one, if the images fit into memory and onto a page."""
    if len(rows.said) > MOST_ROWS:
        raise ValueError(
            f"{rows.key}: {len(rows.said)} rows, must be at most {MOST_ROWS}: choose by --labels or --prompt,"
            " and sample them in parts"
        )
    condition = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(model.null))
    image = len(arguments.w) * math.prod(model.space.image_shape)
    each = image + condition + rows.values.itemsize + OVERHEAD
    limits.check_images(each, rows=len(rows.said) + 1, per_label=arguments.per_label)
    check_page(len(rows.said) + 1, arguments.per_label, len(arguments.w))
    return request(model.codec, [one for one in (*rows.said, None) for _ in range(arguments.per_label)])


def write(out: Place, panels: dict[float, np.ndarray], rows: Rows, n: int) -> None:
    """The images of each w as arrays, and all of them as a figure."""
    values = np.repeat(rows.values, n)
    for w, images in panels.items():
        arrays: dict[str, Any] = {"images": images[:-n], rows.key: values}
        with atomic_write(out / f"w={scale_name(w + 0.0)}.npz") as stream:  # 0.0 also for -0.0
            np.savez_compressed(stream, **arrays)
    guidance_grid(panels, [*rows.names, "unconditional"], out / "grid.png")
    print(f"{out / 'grid.png'}\n{out}/w=*.npz: {n * len(rows.names)} images for each of {len(panels)} w")


def rows_of(model: Model, arguments: Arguments) -> Rows:
    """A row for each class or prompt."""
    if not isinstance(model.codec, Classes):
        return prompts_of(arguments)
    if arguments.prompt:
        raise ValueError(
            f"prompt: the model was trained on {len(model.classes)} classes; choose by --labels;"
            " --describe lists them"
        )
    asked: Sequence[str] = arguments.labels or [str(i) for i in range(len(model.classes))]
    every = arguments.labels is None
    labels = [i if every else class_of(model, f"labels[{i}]", label) for i, label in enumerate(asked)]
    return Rows(labels, [model.classes[label] for label in labels], "labels", np.array(labels, np.int32))


def class_of(model: Model, name: str, label: str) -> int:
    """The number of a class by its name, or else by its number."""
    try:
        return int(model.codec.encode(label))
    except ValueError as error:
        digits = label.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            raise ValueError(f"{name}: {error}") from None
    try:
        return int(model.codec.encode(int(label)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def negative_of(model: Model, said: str | None) -> ClassOrPrompt:
    """The class or prompt to guide away from."""
    if said is None or not isinstance(model.codec, Classes):
        return said
    return class_of(model, "negative", said)


def prompts_of(arguments: Arguments) -> Rows:
    """A row for each prompt."""
    if arguments.labels is not None:
        raise ValueError("labels: the model was trained on captions; choose by --prompt")
    if not arguments.prompt:
        raise ValueError('prompt is missing: the model was trained on captions, give --prompt "..." "..."')
    return Rows(arguments.prompt, arguments.prompt, "prompts", np.array(arguments.prompt))


if __name__ == "__main__":
    script(main)
