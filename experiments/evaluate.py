"""Quality of a run's images for each w, next to that of real images.

    python -m experiments.evaluate MODEL [--w 0 1 2 4] [--calls 1 2 4] [--per-label N] [--captions N]
        [--features FOLDER]

The columns are those of `experiments/report/quality.py`, for captions of `experiments/report/captioned.py`,
with half of their 95 % intervals: first how good the images are, then how diverse. The last row has the
figures of real images, and for a run in latents the one above it those of the same images encoded and
decoded: what the autoencoder alone loses (docs/running.md, What the figures mean). Writes evaluation.json and
evaluation.png.

For `shapes` an exact reader of its scenes decides instead which claims of a caption are true of its image
(`experiments/report/alignment.py`), for `moving_shapes` one of its clips, beside controls that a measure of
motion must notice (`experiments/report/motion.py`), and for `emoji` whether the nearest of all pictures is
the one named (`experiments/report/retrieval.py`).
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import tyro

from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report import alignment, captioned, motion, quality, retrieval
from experiments.report.plots import curves_over_w
from experiments.report.tables import print_table, write_json
from jaxflow import ranges
from jaxflow.data.codecs import Classes, Codec
from jaxflow.devices import processes
from jaxflow.evaluation.intervals import Measured
from jaxflow.places import Place, place
from jaxflow.pretrained import extractors
from jaxflow.runs import folder, limits, loading
from jaxflow.runs.requests import Request, request
from jaxflow.runs.sampler import Sampler
from jaxflow.runs.settings import Setting, columns

MOST_SCALES = 100
MOST_STEPS = 1_000_000
"""Of the judge."""
MOST_PROMPTS = 1_000_000
WITHOUT_FEATURES = ("shapes", "emoji")
"""Data sets whose images are read exactly, or retrieved."""
Measure = quality.Measure | captioned.Measure
TABLES = (
    ("accuracy", "caption", "frechet", "frechet pixels", "kernel", "precision", "density"),
    ("recall", "coverage", "diversity", "entropy", "inception", "nearest", "clip score"),
)
"""Columns of the two tables: how good the images are, and how diverse.

In the second, runs of captions have room for `clip score`.
"""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[str]
    """The run folder, or a file from experiments.export."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    per_label: int = 100
    """Images per class on average; classes have the frequencies of the held-out images."""
    captions: int = 500
    """Held-out captions used as prompts, for a run trained on captions; for `shapes`, `moving_shapes` and
    `emoji`, of each split."""
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
    seed: int = 1
    """Seed of the noise and the judge."""
    judge_steps: int = 500
    """Training steps of the judge."""
    features: str | None = None
    """Folder of a CLIP or DINOv2 of transformers, or of the Inception-v3 of pytorch-fid, whose features are
    compared instead of the judge's."""
    out: str | None = None
    """Folder for the results; if omitted, the run folder, or NAME-results next to a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.evaluate")
    with refusing():
        check(arguments)
        model = place(arguments.model, "MODEL")
        opened = open_model(model, arguments.source)
        samplers = opened.samplers(arguments.sampler, arguments.calls)
        for sampler in samplers.values():
            opened.check(sampler, arguments.rule, arguments.sigma, arguments.w)
        settings = [Setting(w, calls) for calls in samplers for w in arguments.w]
        if processes.is_first():
            for line in without_effect(arguments, opened.model.codec):
                print(f"note: {line}", file=sys.stderr)
        out = loading.results(model) if arguments.out is None else place(arguments.out, "out")
        made = opened.described(samplers, arguments.rule, arguments.sigma, arguments.seed)
        report = report_of(out, opened, arguments, settings, made)
        opened = opened.read()
        folder.make(out)
        classifier = opened.classifier(arguments.rule, arguments.seed)
        generate = opened.generate(samplers, arguments.rule, arguments.sigma, classifier)
    report(partial(generate, seed=arguments.seed))


def check(arguments: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    ranges.not_empty(w=arguments.w)
    ranges.at_least(1, MOST_SCALES, **{"number of --w": len(arguments.w)})
    ranges.at_least(1, per_label=arguments.per_label)
    ranges.at_least(1, MOST_PROMPTS, captions=arguments.captions)
    ranges.at_least(1, MOST_STEPS, judge_steps=arguments.judge_steps)
    ranges.seed(arguments.seed)


def without_effect(arguments: Arguments, codec: Codec) -> Iterator[str]:
    """A line for the option that a run of these conditions does not read."""
    unread, conditions = ("captions", "classes") if isinstance(codec, Classes) else ("per_label", "captions")
    if getattr(arguments, unread) != getattr(Arguments, unread):
        yield f"--{unread.replace('_', '-')} has no effect: the model was trained on {conditions}"


def report_of(
    out: Place, opened: Opened, arguments: Arguments, settings: Sequence[Setting], made: dict[str, Any]
) -> Callable[[Callable[..., quality.Images]], None]:
    """Read the data of the run; the returned function measures its images and writes the tables.

    Raises:
        ValueError: there are too few or too many images, or they are not those of the training.
        OSError: the data are not there.
    """
    extractor = extractor_of(opened, arguments.features)
    judged: dict[str, Any] = {
        "seed": arguments.seed,
        "steps": arguments.judge_steps,
        "sharding": opened.placement.examples,
    }
    asked = (out, opened.split, settings, arguments.captions, made)
    if opened.run.experiment.dataset == "shapes":
        return alignment.report(*asked, opened.decode)
    if opened.run.experiment.dataset == "moving_shapes":
        clips, classifier = of_captions(opened, arguments)
        return motion.report(*asked, opened.decode, opened.model.space, clips, partial(classifier, **judged))
    if opened.run.experiment.dataset == "emoji":
        return retrieval.report(*asked, opened.decode, opened.run, opened.placement.examples)
    of = of_classes if isinstance(opened.model.codec, Classes) else of_captions
    wanted, measure = of(opened, arguments)

    def report(generate: Callable[..., quality.Images]) -> None:
        figures = measure(**judged, extractor=extractor)
        rows = [figures(generate(wanted, setting)) for setting in settings]
        decoded = None if opened.decode is None else figures.decoded(opened.decode)
        if processes.is_first():
            write(out, settings, rows, figures, decoded, made | {"images_per_w": len(wanted.number)})

    return report


def extractor_of(opened: Opened, folder: str | None) -> extractors.Extractor | None:
    """The published network in a folder; None without a folder.

    Raises:
        ValueError: it cannot be read, or the run has no images whose features are compared.
        FileNotFoundError: a file is missing.
    """
    if folder is None:
        return None
    dataset, shape = opened.run.experiment.dataset, opened.model.space.image_shape
    if dataset in WITHOUT_FEATURES:
        raise ValueError(f"features = {folder!r}: the figures of {dataset} need no features, omit --features")
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(
            f"features = {folder!r}: published networks see images of 1 or 3 channels, not"
            f" {' x '.join(map(str, shape))}; omit --features"
        )
    return extractors.load(folder)


def of_classes(opened: Opened, arguments: Arguments) -> tuple[Request, Callable[..., Measure]]:
    """The images to generate of a run of classes, and what measures them."""
    check_images(opened, arguments.per_label)
    real = quality.read(opened.split, held_out=has_test(opened))
    labels = quality.labels_of(real, len(opened.model.classes), arguments.per_label)
    return request(opened.model.codec, labels.tolist()), partial(quality.Measure, real, labels)


def of_captions(opened: Opened, arguments: Arguments) -> tuple[Request, Callable[..., Measure]]:
    """The same for a run of captions."""
    real = captioned.read(opened.split, arguments.captions, held_out=has_test(opened))
    return real.wanted, partial(captioned.Measure, real)


def check_images(opened: Opened, per_label: int) -> None:
    """Raise a ValueError if the images of a setting exceed the memory."""
    each = 8 * math.prod(opened.model.space.image_shape)
    limits.check_images(each, per_label=per_label, classes=len(opened.model.classes))


def has_test(opened: Opened) -> bool:
    """Whether images were held out from training."""
    return opened.run.experiment.hold_out > 0


def write(
    out: Place,
    settings: Sequence[Setting],
    rows: list[Measured],
    figures: Measure,
    decoded: tuple[Measured, float] | None,
    made: dict[str, Any],
) -> None:
    """Print the tables, and write them as JSON and as curves."""
    real, n = figures.real(), made.pop("images_per_w")
    print(f"\nfor each w {figures.balance}; compared with real ones in sets of {figures.size}")
    if figures.features is not None:
        print(f"in features of {figures.features}, not of the judge")
    references = {figures.label: real} if decoded is None else {"decoded": decoded[0], figures.label: real}
    names = [setting.name for setting in settings]
    labelled = [*zip(names, rows, strict=True), *references.items()]
    for some in TABLES:
        print_table(
            "w",
            [name for name in some if name in real.figures],
            [(name, row.figures) for name, row in labelled],
            [{name: each.half for name, each in row.intervals.items()} for _, row in labelled],
        )
    if decoded is not None:
        print(f"decoded: median PSNR {decoded[1]:.4g} dB")
    for warning in figures.warnings:
        print(f"warning: {warning}")
    table = columns(settings) | {name: [row.figures[name] for row in rows] for name in real.figures}
    intervals: dict[str, Any] = {
        "table": {name: [row.intervals[name] for row in rows] for name in real.intervals}
    }
    intervals |= {name: row.intervals for name, row in references.items()}
    result = {"images_per_w": n, "images_per_set": figures.size, **figures.counts}
    result |= {"features": figures.features or "judge", "sampled": made}
    result |= {"table": table, "real": real.figures, "intervals": intervals, "warnings": figures.warnings}
    result |= {} if decoded is None else {"decoded": decoded[0].figures, "decoded_psnr": decoded[1]}
    write_json(out / "evaluation.json", result)
    curves_over_w(settings, rows, real, figures.label, out / "evaluation.png")
    print(f"{out / 'evaluation.png'}\n{out / 'evaluation.json'}")


if __name__ == "__main__":
    script(main)
