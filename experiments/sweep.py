"""Compare guidance rules: every rule at every scale w, in one compiled program per rule.

    python -m experiments.sweep MODEL [--rules ...] [--w 1 1.25 1.5 2 3 5 8 12] [--sigma 0] [--worse DIR]

All settings start from the same noise and get the figures of `experiments/report/quality.py`. The rules are
those of `jaxflow/runs/rules.py`: `autoguidance` needs --worse, a less trained run on the same data;
`classifier` first trains its classifier of noisy images. With a --sigma other than 0 the SDE is sampled.
A flow map, whose guidance is inside it, has curves for its numbers of --calls instead of rules.

Writes sweep.json, all settings, and sweep.png, curves over w; prints the command that samples the best. With
--prompt or --labels, which models of prompts and published ones need, sweep.png has images instead: a panel
per rule, in each a row per prompt or label and a column per w and sigma. In both cases sweep.html is a page
to play on: images of the same noise by every rule, with a slider over w.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Int, UInt8

from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report import page, quality
from experiments.report.plots import check_page, curve_name, grid, rules_over_w
from experiments.report.tables import print_table, write_json
from jaxflow import ranges
from jaxflow.data.codecs import Classes
from jaxflow.devices import processes
from jaxflow.places import Place, place
from jaxflow.runs import folder, limits, loading
from jaxflow.runs.requests import Request, request
from jaxflow.runs.rules import CHANGES, INTERNAL, RULES
from jaxflow.runs.sampler import Sampler
from jaxflow.runs.settings import scale_name

Swept = UInt8[np.ndarray, "scales sigmas n *image"]
SHOWN = 10
"""Classes on the page to play on, and most images of each."""
MOST_VALUES = 100
"""Values of an option."""
MOST_STEPS = 1_000_000
"""Of the judge."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[str]
    """The run folder, or a file from experiments.export, or the folder of a published pipeline."""
    prompt: tuple[str, ...] = ()
    """Prompts, for a model of prompts."""
    labels: tuple[str, ...] = ()
    """Classes by name or number; then, as for prompts, images are drawn and no figures measured."""
    w: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)
    """Guidance scales."""
    sigma: tuple[float, ...] = (0.0,)
    """Diffusion coefficients; 0 alone is the ODE. With any other, all settings are sampled as an SDE."""
    rules: tuple[str, ...] | None = None
    """Guidance rules by name; if omitted, all that can run but three_channels and those that change the
    network's blocks."""
    per_label: int = 100
    """Images per class on average; classes have the frequencies of the held-out images."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    calls: tuple[int, ...] = ()
    """Calls of a flow map, each a jump, in place of --solver and --steps; if omitted 1 2 4."""
    chunk: int = 1
    """Settings computed together, at most all w and sigma of a rule; more fill a large device."""
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)
    seed: int = 1
    """Seed of the noise and the classifiers."""
    judge_steps: int = 500
    """Training steps of the judge."""
    out: str | None = None
    """Folder for the results; if omitted, the run folder, or NAME-results next to a file."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.sweep")
    with refusing():
        check(arguments)
        model = place(arguments.model, "MODEL")
        opened = open_model(model, arguments.source)
        said, hows = shown_of(arguments, opened), hows_of(arguments, opened)
        for how in hows:
            opened.check(how.sampler, how.rule, max(arguments.sigma), arguments.w)
        out = loading.results(model) if arguments.out is None else place(arguments.out, "out")
    if said:
        draw(arguments, opened, hows, said, out)
    else:
        compare(arguments, opened, hows, out)


class How(NamedTuple):
    """What the settings of one program share: the rule, and of a flow map the calls."""

    rule: str
    calls: int | None
    sampler: Sampler

    @property
    def names(self) -> dict[str, Any]:
        """As columns of the settings."""
        return {"rule": self.rule} | ({} if self.calls is None else {"calls": self.calls})


def compare(arguments: Arguments, opened: Opened, hows: Sequence[How], out: Place) -> None:
    """Measure the images of each rule, or number of calls."""
    with refusing():
        classes = len(opened.model.classes)
        check_images(arguments, opened)
        real = quality.read(opened.split, held_out=opened.run.experiment.hold_out > 0)
        labels = quality.labels_of(real, classes, arguments.per_label)
        opened = opened.read()
        folder.make(out)

    measure = quality.Measure(
        real, labels, seed=arguments.seed, steps=arguments.judge_steps, sharding=opened.placement.examples
    )
    wanted = request(opened.model.codec, labels.tolist())
    rows: list[dict] = []
    panels: dict[str, Sequence[np.ndarray]] = {}
    names, few = some(labels, opened.model.classes)
    for how in hows:
        images = sampled(arguments, opened, how, wanted)
        panels[curve_name(how.names)] = [*images[:, :, few].reshape(-1, len(few), *images.shape[3:])]
        for i, w in enumerate(arguments.w):
            for j, sigma in enumerate(arguments.sigma):
                measured = measure(images[i, j])
                rows.append(how.names | {"w": w, "sigma": sigma} | measured.figures)
                rows[-1]["intervals"] = measured.intervals
                figures = (f"{column} {rows[-1][column]:.4g}" for column in quality.COLUMNS)
                print(f"{setting(rows[-1])}  {'  '.join(figures)}")
    if processes.is_first():
        page.write(opened.title, panels, stops(arguments), names, out / "sweep.html")
        write(out, rows, measure, arguments, opened)


def some(
    labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> tuple[Sequence[str], Int[np.ndarray, " few"]]:
    """The first classes, and where the first images of each are: equally many, `SHOWN` at most.

    >>> some(np.array([0, 0, 1, 0, 1]), ["cat", "dog"])
    (['cat', 'dog'], array([0, 1, 2, 4]))
    """
    where = [np.flatnonzero(labels == label) for label in range(min(len(classes), SHOWN))]
    each = min(SHOWN, *map(len, where))
    return list(classes[: len(where)]), np.concatenate([positions[:each] for positions in where])


def stops(arguments: Arguments) -> list[str]:
    """The names of all pairs of w and sigma."""
    several = len(arguments.sigma) > 1
    return [
        f"w = {scale_name(w)}" + (f", sigma = {scale_name(sigma)}" if several else "")
        for w in arguments.w
        for sigma in arguments.sigma
    ]


def draw(
    arguments: Arguments, opened: Opened, hows: Sequence[How], said: Sequence[int | str], out: Place
) -> None:
    """Draw the page of images: a panel per rule or number of calls, in each a row per class or prompt.

    It has a column per w and sigma.
    """
    columns = len(arguments.w) * len(arguments.sigma)
    with refusing():
        wanted = request(opened.model.codec, said)
        each = len(hows) * math.prod(opened.model.space.image_shape)
        limits.check_images(each, rows=len(said), w=len(arguments.w), sigma=len(arguments.sigma))
        check_page(len(said), columns, len(hows))
        opened = opened.read()
        folder.make(out)
    scales = ", ".join(scale_name(w) for w in arguments.w)
    panels: dict[str, np.ndarray] = {}
    played: dict[str, Sequence[np.ndarray]] = {}
    for how in hows:
        images = sampled(arguments, opened, how, wanted)
        name = curve_name(how.names)
        played[name] = [*images.reshape(columns, len(said), *images.shape[3:])]
        images = np.moveaxis(images, 2, 0)
        panels[f"{name}\nw = {scales}"] = images.reshape(len(said) * columns, *images.shape[3:])
    names = [row if isinstance(row, str) else opened.model.classes[row] for row in said]
    if processes.is_first():
        page.write(opened.title, played, stops(arguments), names, out / "sweep.html")
        grid(panels, names, out / "sweep.png")
        print(f"{out / 'sweep.png'}\n{out / 'sweep.html'}")


def shown_of(arguments: Arguments, opened: Opened) -> tuple[int | str, ...]:
    """The rows of a page of images; none if figures are measured instead.

    Raises:
        ValueError: there is nothing to draw, or the option for it is another.
    """
    if not isinstance(opened.model.codec, Classes):
        if arguments.labels or not arguments.prompt:
            raise ValueError('prompt is missing: the model has prompts, give --prompt "..." "..."')
        return arguments.prompt
    if arguments.prompt:
        raise ValueError("prompt: the model has classes; choose by --labels")
    if opened.trained is None and not arguments.labels:
        raise ValueError(
            "labels is missing: give --labels; `experiments.sample --describe` lists the classes"
        )
    return tuple(opened.class_of(f"labels[{i}]", one) for i, one in enumerate(arguments.labels))


def sampled(arguments: Arguments, opened: Opened, how: How, wanted: Request) -> Swept:
    """The images of a rule at all w and sigma."""
    log_prob = opened.classifier(how.rule, arguments.seed)
    generate = opened.generator(how.sampler, how.rule, max(arguments.sigma), log_prob)
    return generate.sweep(wanted, arguments.w, arguments.sigma, seed=arguments.seed, chunk=arguments.chunk)


def check(arguments: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    ranges.not_empty(w=arguments.w, sigma=arguments.sigma, rules=arguments.rules)
    for name in ("w", "sigma", "rules"):
        ranges.at_least(1, MOST_VALUES, **{f"number of --{name}": len(getattr(arguments, name) or "1")})
    ranges.at_least(1, per_label=arguments.per_label)
    ranges.at_least(1, chunk=arguments.chunk)
    most = len(arguments.w) * len(arguments.sigma)
    ranges.check(
        lambda v: v <= most,
        f"must be at most {most}, the number of pairs of w and sigma",
        chunk=arguments.chunk,
    )
    ranges.at_least(1, MOST_STEPS, judge_steps=arguments.judge_steps)
    ranges.seed(arguments.seed)
    for sigma in arguments.sigma:
        ranges.not_negative(sigma=sigma)


def check_images(arguments: Arguments, opened: Opened) -> None:
    """Raise a ValueError if the images of a rule exceed the memory."""
    each = 8 * math.prod(opened.model.space.image_shape)
    counts = {"per_label": arguments.per_label, "classes": len(opened.model.classes)}
    limits.check_images(each, **counts, w=len(arguments.w), sigma=len(arguments.sigma))


def setting(row: dict) -> str:
    """The rule or the calls, w and sigma of a row."""
    return f"{curve_name(row)}, w {scale_name(row['w'])}, sigma {scale_name(row['sigma'])}"


def hows_of(arguments: Arguments, opened: Opened) -> list[How]:
    """The chosen rules, each once, or all that can run; of a map its one rule, by numbers of calls."""
    samplers = opened.samplers(arguments.sampler, arguments.calls)
    if None not in samplers:
        asked = dict.fromkeys(arguments.rules or ("classifier_free",))
        return [How(rule, calls, sampler) for calls, sampler in samplers.items() for rule in asked]
    has_classifier = opened.trained is not None and isinstance(opened.model.codec, Classes)
    can = dict.fromkeys(("three_channels", *CHANGES), False)
    can |= {"autoguidance": opened.worse is not None, "classifier": has_classifier}
    can |= dict.fromkeys(INTERNAL, opened.model.outputs is not None)
    every = (name for name in RULES if can.get(name, True))
    return [How(rule, None, arguments.sampler) for rule in dict.fromkeys(arguments.rules or every)]


def command(arguments: Arguments, opened: Opened, row: dict, per_label: int) -> str:
    """The command that samples the images of a setting again, of rarer classes more than were compared."""
    sampler, source = arguments.sampler, arguments.source
    solver = sampler.solver_name(opened.model.prediction, max(arguments.sigma))
    options = {
        **{"w": repr(row["w"]), "rule": row["rule"], "sigma": repr(row["sigma"])},
        **({"calls": row["calls"]} if "calls" in row else {"solver": solver, "steps": sampler.steps}),
        **{"grid": sampler.grid, "shift": opened.shift(sampler)},
        **{"churn": sampler.churn or None, "clip": sampler.clip},
        **{"seed": arguments.seed, "per-label": per_label},
        **{"preset": source.preset, "data-dir": source.data_dir},
        "worse": source.worse if row["rule"] == "autoguidance" else None,
        "classifier-steps": source.classifier_steps if row["rule"] == "classifier" else None,
    }
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    if sampler.interval is not None:
        given.append(f"--interval {sampler.interval[0]!r} {sampler.interval[1]!r}")
    return " ".join(["python -m experiments.sample", shlex.quote(str(arguments.model)), *given])


def write(
    out: Place,
    rows: Sequence[dict],
    measure: quality.Measure,
    arguments: Arguments,
    opened: Opened,
) -> None:
    """Print the best setting of each rule and the command for the best of all; write JSON and curves."""
    real, labels = measure.real(), measure.labels
    best: dict[str, dict] = {}
    for row in rows:
        name = curve_name(row)
        if name not in best or row["frechet"] < best[name]["frechet"]:
            best[name] = row
    of = "number of calls" if "calls" in rows[0] else "rule"
    print(f"\nbest setting of each {of}, by the Frechet distance in features")
    print(f"for each setting {measure.balance}; compared with real ones in sets of {measure.size}")
    labelled = [*((setting(row), row) for row in best.values()), (measure.label, real.figures)]
    print_table("", quality.COLUMNS, labelled)
    for warning in measure.warnings:
        print(f"warning: {warning}")
    most = int(np.bincount(labels).max())
    again = command(arguments, opened, min(best.values(), key=lambda row: row["frechet"]), most)
    result = {"images_per_setting": len(labels), "images_per_set": measure.size, **measure.counts}
    result |= {"settings": list(rows), "best": best, "real": real.figures, "real_intervals": real.intervals}
    result |= {"warnings": measure.warnings, "command": again}
    write_json(out / "sweep.json", result)
    drawn = {name: real.figures[name] for name in quality.COLUMNS}
    rules_over_w(rows, drawn, measure.label, out / "sweep.png")
    print(f"{out / 'sweep.png'}\n{out / 'sweep.html'}\n{out / 'sweep.json'}\nthe best of all: {again}")


if __name__ == "__main__":
    script(main)
