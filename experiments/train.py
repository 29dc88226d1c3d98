"""Train a preset, and continue where it stopped if it was stopped.

    python -m experiments.train PRESET --out DIR [--steps N] [--seed S] [--data-dir DIR] [--network.width N]
    python -m experiments.train my_preset.py --out DIR

Every number of the preset, its network and its path can be set; `python -m experiments.train PRESET --help`
lists them. A file of your own, with a function `experiment()`, is a preset too.
"""

import ast
import dataclasses
import inspect
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments import presets
from experiments.cli import refusing, script
from experiments.presets import Preset
from experiments.report.previews import Previews
from jaxflow.data.batches import batches, order
from jaxflow.data.dataset import Dataset
from jaxflow.devices import parallel, processes
from jaxflow.devices.parallel import Devices
from jaxflow.runs import folder, schema
from jaxflow.runs.configuration import Experiment, check, fitted
from jaxflow.runs.objective import objective, optimizer_of
from jaxflow.runs.run import Run, new_run, open_data
from jaxflow.training.lock import Lock
from jaxflow.training.loop import Training
from jaxflow.training.step import initial_state


@dataclass(frozen=True)
class Options:
    """What the command line has beside the numbers of the experiment."""

    out: Path
    """The run folder."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    data_dir: str | None = None
    """Folder of the prepared data sets; left out, TFDS_DATA_DIR or ~/tensorflow_datasets. For `folder` that
    of your pictures."""
    profile: bool = False
    """Trace steps 6 to 10 from the start into DIR/profile."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    with ExitStack() as held:
        with refusing():
            preset, experiment, options = parse(sys.argv[1:] if argv is None else argv)
            experiment, dataset = read(preset, experiment, options)
            run = new_run(experiment, dataset, options.data_dir)
            training = begin(run, dataset, options, held)
        stopped = training.run()
    if stopped is not None:
        print(f"{options.out}: stopped by {stopped.name}, all is saved; the same command continues")
        sys.exit(128 + stopped)
    print(f"{options.out}: trained to step {max(training.start, experiment.steps)}")


def begin(run: Run, dataset: Dataset, options: Options, held: ExitStack) -> Training:
    """The training, with its folder taken, its state restored and its first batch read."""
    experiment, out = run.experiment, options.out
    optimizer = optimizer_of(experiment)
    shapes = jax.eval_shape(lambda: initial_state(run.initial_params(jax.random.key(0)), optimizer))
    placement = options.devices.placement(shapes)
    parallel.check_divides(placement.examples, experiment.batch_size, experiment.accumulate)
    stream = partial(batches, dataset, seed=experiment.seed, batch_size=experiment.batch_size)
    if processes.is_first():
        claim(out, run, dataset, held)
    training = Training(
        objective(run),
        run.initial_params,
        lambda start: stream(start=start, sharding=placement.examples),
        optimizer=optimizer,
        seed=experiment.seed,
        steps=experiment.steps,
        out=out,
        ema_decay=experiment.ema,
        accumulate=experiment.accumulate,
        checkpoint_every=experiment.checkpoint_every,
        log_every=experiment.log_every,
        placement=placement,
        pictures=Previews(run, placement, dataset, out / "samples"),
        profile=options.profile,
    )
    return held.enter_context(training)


def read(preset: Preset, experiment: Experiment, options: Options) -> tuple[Experiment, Dataset]:
    """The experiment as its data complete it, and the data.

    Raises:
        ValueError: a number of the experiment is out of its range, or the data do not serve it.
        OSError: the data are not there.
    """
    check(experiment)
    if experiment.text_encoder is not None:  # a run may be continued from another folder
        encoder = str(Path(experiment.text_encoder).expanduser().absolute())
        experiment = replace(experiment, text_encoder=encoder)
    if preset.dataset is None:
        dataset = open_data(experiment, "train", options.data_dir)
    else:
        dataset = own_data(preset, experiment, options)
    order(len(dataset), experiment.seed, experiment.batch_size)
    return fitted(experiment, dataset.codec), dataset


def own_data(preset: Preset, experiment: Experiment, options: Options) -> Dataset:
    """The data of a preset that brings them, of which no option speaks."""
    assert preset.dataset is not None
    given = {"data_dir": options.data_dir, "image_size": experiment.image_size}
    for name, value in (given | {"text_encoder": experiment.text_encoder}).items():
        if value is not None:
            raise ValueError(f"{name} = {value}: the preset brings its own data, by dataset(split)")
    return preset.dataset("train")


def claim(out: Path, run: Run, dataset: Dataset, held: ExitStack) -> None:
    """Take the folder for this run, and write what the run is into it."""
    folder.make(out)
    held.enter_context(Lock(out))
    folder.store(out, run)
    if run.experiment.dataset == "folder":
        from experiments.report.contact_sheet import contact_sheet

        contact_sheet(dataset, out / "data.png", getattr(dataset.source, "notes", ()))
        print(f"{out / 'data.png'}: what was read")


def parse(argv: list[str]) -> tuple[Preset, Experiment, Options]:
    """The preset by its name or file, and the numbers of it, its network and its path as options."""
    if not argv:
        raise ValueError(f"PRESET is missing: there are {', '.join(presets.names())}")
    if argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nPresets: {', '.join(presets.names())}")
        sys.exit(0)
    preset = presets.load(argv[0])
    numbers = _options("Numbers", preset.experiment)
    own: Any = ("experiment", Annotated[numbers, tyro.conf.arg(name="")], field(default_factory=numbers))
    arguments = dataclasses.make_dataclass("Arguments", [own], bases=(Options,), frozen=True, kw_only=True)
    arguments.__doc__ = Options.__doc__
    given: Any = tyro.cli(arguments, args=argv[1:], prog=f"python -m experiments.train {argv[0]}")
    options = Options(*(getattr(given, each.name) for each in dataclasses.fields(Options)))
    return preset, _changed(preset.experiment, given.experiment), options


def _options(name: str, value: Any) -> type:
    """A dataclass of the numbers and texts in `value` and in its parts, with what each of them is."""
    types, texts, fields = schema.options_of(value), _texts(type(value)), []
    for each in schema.fields_of(type(value)):
        part = getattr(value, each.name)
        if each.name in types:
            kind: Any = Annotated[types[each.name], tyro.conf.arg(help=texts.get(each.name))]
            fields.append((each.name, kind, field(default=part)))
        elif dataclasses.is_dataclass(part):
            kind = _options(each.name.title(), part)
            fields.append((each.name, kind, field(default_factory=kind)))
    made = dataclasses.make_dataclass(name, fields, frozen=True, kw_only=True)
    made.__doc__ = type(value).__doc__  # where a module says what its attributes are
    return made


def _changed(value: Any, options: Any) -> Any:
    """`value` with the options in the place of its numbers."""
    given = {each.name: getattr(options, each.name) for each in dataclasses.fields(options)}
    changed = {
        name: _changed(getattr(value, name), option) if dataclasses.is_dataclass(option) else option
        for name, option in given.items()
    }
    return replace(value, **changed) if changed else value


def _texts(kind: type) -> dict[str, str]:
    """What stands below each field of a class."""
    try:
        (made,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):  # a class that was made by a program
        return {}
    assert isinstance(made, ast.ClassDef)
    return {
        one.target.id: " ".join(str(text.value.value).split())
        for one, text in pairwise(made.body)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


if __name__ == "__main__":
    script(main)
