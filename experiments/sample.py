"""Guided images of a trained run, or of a published model: the chapter's figure, and the images as arrays.

    python -m experiments.sample MODEL --w 0 1 2 4 [--labels ...] [--steps N] [--rule NAME] [--solver NAME]
    python -m experiments.sample MODEL --w 1 3 6 --prompt "a red circle" "a blue square" [--negative "..."]
    python -m experiments.sample MODEL --prompt "..." --from PICTURE [--strength 0.6 | --mask PICTURE]
    python -m experiments.sample MODEL --prompt "..." [--frames 64] [--format gif]    a model of clips
    python -m experiments.sample MODEL --calls 1 2 4                                  a flow map
    python -m experiments.sample MODEL --describe

Writes to MODEL/samples a grid.png, with a panel per w, in each a row per label or prompt and an unconditional
row, and a file w=W.npz per w with `images` uint8 (n, h, w, c) and `labels` (n,) or `prompts` (n,). Images of
128 pixels or more are also written one by one, as w=W-ROW-NUMBER.png; clips play side by side in w=W.webp. Of
a flow map there is a panel, and a file w=W-calls=N.npz, for each w and each number of calls.
MODEL is a run folder, or a file NAME.safetensors from `export`, which needs no other file, or the folder NAME
of a pipeline of diffusers; the samples of the last two go to NAME-results/samples.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from PIL import Image

from experiments import notes
from experiments.cli import refusing, script
from experiments.clips import Clips
from experiments.opening import Opened, Source, open_model
from experiments.pictures import Picture
from experiments.report.plots import check_page, guidance_grid
from jaxflow import ranges
from jaxflow.data.codecs import Classes
from jaxflow.devices import processes
from jaxflow.places import Place, place
from jaxflow.runs import folder, limits, loading
from jaxflow.runs.edits import Edit
from jaxflow.runs.model import Model
from jaxflow.runs.requests import ClassOrPrompt, Request, encode, request
from jaxflow.runs.sampler import Sampler
from jaxflow.runs.settings import Setting, columns
from jaxflow.training.files import atomic_write

LARGE = 128
"""Pixels on a side from which an image is worth a file of its own."""
MOST_SCALES, MOST_ROWS = 100, 1000
"""Panels of a page, and their rows without the unconditional one."""
OVERHEAD = 100
"""Bytes of a request, per image."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[str]
    """The run folder, or a file from experiments.export, or the folder of a published pipeline."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales; if omitted 5 alone for a published model, whose images may take minutes."""
    labels: tuple[str, ...] | None = None
    """Classes by name or number; if omitted, all, and of a published model the first."""
    prompt: tuple[str, ...] = ()
    """Prompts, for a run trained on captions."""
    negative: str | None = None
    """A class or prompt to guide away from, instead of null."""
    per_label: int = 10
    """Images per label or prompt; if omitted 1 for a published model."""
    start: Annotated[Picture, tyro.conf.arg(name="")] = field(default_factory=Picture)
    clips: Annotated[Clips, tyro.conf.arg(name="")] = field(default_factory=Clips)
    rule: str = "classifier_free"
    """Guidance rule: classifier_free, increasing, plus_plus, rescaled, projected,
    tangential_damping, frequency_decoupled, magnitude_aware, zero_star, rectified, three_channels,
    classifier, autoguidance, internal, internal_classifier_free, perturbed_attention, smoothed_energy or
    skipped_layers."""
    sigma: float = 0.0
    """Diffusion coefficient of the SDE; 0 is the ODE."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    calls: tuple[int, ...] = ()
    """Calls of a flow map, each a jump, in place of --solver and --steps; if omitted 1 2 4."""
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 0
    """Seed of the noise."""
    out: str | None = None
    """Folder for the images; if omitted, `samples` in the run folder, or in NAME-results next to a file."""
    describe: bool = False
    """Print a description of the model with all its classes or words, without sampling."""


PROGRAM = "python -m experiments.sample"
OF_PUBLISHED = Arguments(model="", w=(5.0,), per_label=1)
"""Defaults for published models."""


class Rows(NamedTuple):
    """The rows of images, one per label or prompt, and an unconditional one where images are cheap."""

    said: Sequence[ClassOrPrompt]
    names: Sequence[str]
    key: str
    """Name of the array of conditions in the files."""
    values: np.ndarray
    """The condition of each row in the files."""
    unconditional: bool = True

    @property
    def all(self) -> tuple[ClassOrPrompt, ...]:
        """The rows as drawn."""
        return (*self.said, *([None] if self.unconditional else []))


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog=PROGRAM)
    with refusing():
        model = place(arguments.model, "MODEL")
        if loading.is_published(model) or loading.is_fine_tuning(model):
            arguments = tyro.cli(Arguments, args=argv, prog=PROGRAM, default=OF_PUBLISHED)
        check(arguments)
        opened = open_model(model, arguments.source)
        samplers = opened.samplers(arguments.sampler, arguments.calls)
        for sampler in samplers.values():
            opened.check(sampler, arguments.rule, arguments.sigma, arguments.w)
        settings = [Setting(w, calls) for calls in samplers for w in arguments.w]
        if arguments.describe:
            opened = opened.read()
            print(notes.description(opened.origin, opened.model, samplers, arguments.sigma))
            return
        rows, negative = rows_of(opened, arguments), negative_of(opened, arguments.negative)
        space = opened.model.space
        arguments.clips.check(space)
        edit = arguments.start.read(space)
        if edit is not None:
            for sampler in samplers.values():
                sampler.check_edit(opened.model.prediction, arguments.sigma)
        wanted = wanted_of(opened.model, rows, arguments, len(settings))
        away = None if negative is None else encode(opened.model.codec, negative)
        default = loading.results(model) / "samples"
        out = default if arguments.out is None else place(arguments.out, "out")
        opened = opened.read()
        folder.make(out)
        classifier = opened.classifier(arguments.rule, arguments.seed)
        generate = opened.generate(samplers, arguments.rule, arguments.sigma, classifier)
    say(opened, rows, arguments, negative)
    begin = time.perf_counter()

    def draw(setting: Setting, edit: Edit | None, window: int) -> np.ndarray:
        seed = (arguments.seed + window) % ranges.SEEDS
        return generate(wanted, setting, seed=seed, negative=away, edit=edit)

    panels = {setting: arguments.clips.drawn(partial(draw, setting), space, edit) for setting in settings}
    if processes.is_first():
        write(out, panels, rows, arguments.per_label, arguments.clips)
        if opened.trained is None:
            n = len(settings) * len(wanted.number)
            print(f"{(time.perf_counter() - begin) / n:.1f} s per image, with compilation")


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
    print(notes.summary(opened.title, opened.model))
    asked = rows.said if arguments.labels or arguments.prompt else ()
    codec, sampler, rule = opened.model.codec, arguments.sampler, arguments.rule
    effects = notes.without_effect(codec, sampler, rule, arguments.w, asked, negative)
    for line in (*effects, *opened.source.without_effect(rule)):
        print(f"note: {line}", file=sys.stderr)


def wanted_of(model: Model, rows: Rows, arguments: Arguments, panels: int) -> Request:
    """The request for all rows, if the images fit into memory and onto a page."""
    if len(rows.said) > MOST_ROWS:
        raise ValueError(
            f"{rows.key}: {len(rows.said)} rows, must be at most {MOST_ROWS}: choose by --labels or --prompt,"
            " and sample them in parts"
        )
    condition = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(model.null))
    per_label = arguments.per_label
    image = panels * math.prod(model.space.image_shape[-3:]) * arguments.clips.length(model.space)
    each = image + condition + rows.values.itemsize + OVERHEAD
    limits.check_images(each, rows=len(rows.all), per_label=per_label)
    check_page(len(rows.all), per_label, panels)
    return request(model.codec, [one for one in rows.all for _ in range(per_label)])


def write(out: Place, panels: dict[Setting, np.ndarray], rows: Rows, n: int, clips: Clips) -> None:
    """The images of each setting as arrays, large ones also as pictures or clips, and all as a figure."""
    values = np.repeat(rows.values, n)
    for setting, images in panels.items():
        name = setting.file
        arrays: dict[str, Any] = {"images": images[: len(values)], rows.key: values}
        with atomic_write(out / f"{name}.npz") as stream:
            np.savez_compressed(stream, **arrays)
        if images.ndim == 5:
            clips.write(images, n, out / name)
        elif min(images.shape[1:3]) >= LARGE:
            for i, image in enumerate(images[: len(values)]):
                with atomic_write(out / f"{name}-{i // n}-{i % n}.png") as stream:
                    Image.fromarray(image.squeeze()).save(stream, "PNG")
    names = [*rows.names, *(["unconditional"] if rows.unconditional else [])]
    guidance_grid(panels, names, out / "grid.png")
    of = " and ".join(f"{len(set(values))} {name}" for name, values in columns([*panels]).items())
    print(f"{out / 'grid.png'}\n{out}/w=*.npz: {n * len(rows.names)} images for each of {of}")


def rows_of(opened: Opened, arguments: Arguments) -> Rows:
    """A row for each class or prompt."""
    model, is_run = opened.model, opened.trained is not None
    if not isinstance(model.codec, Classes):
        return prompts_of(arguments, is_run)
    if arguments.prompt:
        raise ValueError(
            f"prompt: the model was trained on {len(model.classes)} classes; choose by --labels;"
            " --describe lists them"
        )
    every = arguments.labels is None
    asked: Sequence[str] = arguments.labels or [str(i) for i in range(len(model.classes) if is_run else 1)]
    labels = [i if every else opened.class_of(f"labels[{i}]", label) for i, label in enumerate(asked)]
    values = np.array(labels, np.int32)
    return Rows(labels, [model.classes[label] for label in labels], "labels", values, is_run)


def negative_of(opened: Opened, said: str | None) -> ClassOrPrompt:
    """The class or prompt to guide away from."""
    if said is None or not isinstance(opened.model.codec, Classes):
        return said
    return opened.class_of("negative", said)


def prompts_of(arguments: Arguments, unconditional: bool) -> Rows:
    """A row for each prompt."""
    if arguments.labels is not None:
        raise ValueError("labels: the model was trained on captions; choose by --prompt")
    if not arguments.prompt:
        raise ValueError('prompt is missing: the model was trained on captions, give --prompt "..." "..."')
    return Rows(arguments.prompt, arguments.prompt, "prompts", np.array(arguments.prompt), unconditional)


if __name__ == "__main__":
    script(main)
