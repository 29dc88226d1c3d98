"""Guided images of a trained run: the chapter's figure, and the images as arrays.

    python -m experiments.sample MODEL --w 0 1 2 4 [--labels ...] [--steps N] [--rule NAME] [--solver NAME]
    python -m experiments.sample MODEL --w 1 3 6 --prompt "a red circle" "a blue square" [--negative "..."]

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
from experiments.opening import Source, open_model
from experiments.report.plots import guidance_grid
from jaxflow import ranges
from jaxflow.data.codecs import Classes
from jaxflow.devices import processes
from jaxflow.runs import folder
from jaxflow.runs.model import Model
from jaxflow.runs.requests import Said, request
from jaxflow.runs.sampler import Sampler
from jaxflow.training.files import whole
from jaxflow.typing import Condition


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[Path]
    """The run folder, or a file of experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    labels: tuple[str, ...] | None = None
    """Classes by number or name; all if left out."""
    prompt: tuple[str, ...] = ()
    """What the images shall show, for a run of captions."""
    negative: str | None = None
    """A class or prompt that guidance leads away from, in the place of null."""
    per_label: int = 10
    """Images of each label or prompt."""
    rule: str = "classifier_free"
    """Of guidance: classifier_free, interval, increasing, rescaled, projected, zero_star, rectified,
    classifier or autoguidance."""
    sigma: float = 0.0
    """Diffusion coefficient; 0 is the ODE, with another the SDE is sampled."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 0
    """Of the noise."""
    out: Path | None = None
    """Folder of the images; left out, `samples` in the run folder, or in NAME-results beside a file."""


class Rows(NamedTuple):
    """What is asked for: a row of images for each label or prompt."""

    said: Sequence[Said]
    names: Sequence[str]
    key: str
    """What the rows are called in the files."""
    values: np.ndarray
    """Of each row in the files."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sample")
    with refusing():
        ranges.given(w=arguments.w, labels=arguments.labels)
        ranges.at_least(1, per_label=arguments.per_label)
        if len({f"{w:g}" for w in arguments.w}) < len(arguments.w):
            raise ValueError(f"w = {arguments.w}: two of them have one name, and would be one file")
        ranges.seed(arguments.seed)
        opened = open_model(arguments.model, arguments.source)
        model, how = opened.model, (arguments.sampler, arguments.rule, arguments.sigma)
        opened.check(*how, arguments.w)
        rows = classes_of(model, arguments) if isinstance(model.codec, Classes) else prompts_of(arguments)
        wanted = request(model.codec, [one for one in (*rows.said, None) for _ in range(arguments.per_label)])
        away = None if arguments.negative is None else negative_of(model, arguments.negative)
        out = arguments.out or folder.results(arguments.model) / "samples"
        opened = opened.read()
        folder.make(out)
        generate = opened.generator(*how, opened.classifier(arguments.rule, arguments.seed))
    panels = {w: generate(wanted, w, seed=arguments.seed, negative=away) for w in arguments.w}
    if processes.is_first():
        write(out, panels, rows, arguments.per_label)


def write(out: Path, panels: dict[float, np.ndarray], rows: Rows, n: int) -> None:
    """The images of each w as arrays, and all of them as a page."""
    values = np.repeat(rows.values, n)
    for w, images in panels.items():
        arrays: dict[str, Any] = {"images": images[:-n], rows.key: values}
        with whole(out / f"w={w:g}.npz") as stream:
            np.savez_compressed(stream, **arrays)
    guidance_grid(panels, [*rows.names, "null"], out / "grid.png")
    total = n * len(rows.names)
    print(f"{out / 'grid.png'}\n{out}/w=*.npz: {total} images for each w in {[*panels]}")


def classes_of(model: Model, arguments: Arguments) -> Rows:
    """A row for each class that is asked for."""
    if arguments.prompt:
        raise ValueError(f"prompt: the run is of the classes {', '.join(model.classes)}; choose by --labels")
    asked: Sequence[str] = arguments.labels or [str(i) for i in range(len(model.classes))]
    labels = np.array([class_of(model, f"labels[{i}]", label) for i, label in enumerate(asked)], np.int32)
    return Rows(labels.tolist(), [model.classes[label] for label in labels], "labels", labels)


def class_of(model: Model, name: str, label: str) -> int:
    """The number of a class, of which the name is taken where both could be meant."""
    try:
        said = label if label in model.classes or not label.lstrip("-").isdecimal() else int(label)
        return int(model.codec.encode(said))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def negative_of(model: Model, said: str) -> Condition:
    """The condition that guidance leads away from."""
    classes = isinstance(model.codec, Classes)
    return model.codec.encode(class_of(model, "negative", said) if classes else said)


def prompts_of(arguments: Arguments) -> Rows:
    """A row for each prompt."""
    if arguments.labels is not None:
        raise ValueError("labels: the run is of captions; say what the images shall show with --prompt")
    if not arguments.prompt:
        raise ValueError('prompt is missing: say what the images shall show, --prompt "..." "..."')
    return Rows(arguments.prompt, arguments.prompt, "prompts", np.array(arguments.prompt))


if __name__ == "__main__":
    script(main)
