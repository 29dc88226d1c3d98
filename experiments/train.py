"""Train a preset, and continue where it stopped if it was stopped.

    python -m experiments.train PRESET --out DIR [--steps N] [--seed S] [--data-dir DIR]

Every number of the preset can be set; `python -m experiments.train PRESET --help` lists them.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import jax
import tyro

from experiments import presets
from experiments.cli import refusing, script
from experiments.devices import Devices
from experiments.report.previews import Previews
from jaxflow.data.batches import batches, order
from jaxflow.data.dataset import Dataset
from jaxflow.devices import parallel, processes
from jaxflow.runs import folder, run
from jaxflow.runs.configuration import Experiment, fitted
from jaxflow.runs.loop import initialise, layout, train
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    out: Path
    """The run folder."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    data_dir: str | None = None
    """Folder of the prepared data sets; left out, TFDS_DATA_DIR or ~/tensorflow_datasets. For `folder` that
    of your pictures."""
    profile: bool = False
    """Trace steps 6 to 10 from the start into DIR/profile."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    stopped = None
    with ExitStack() as held:
        with refusing():
            arguments = parse(sys.argv[1:] if argv is None else argv)
            out = arguments.out
            experiment, dataset = read(arguments)
            run = run.new_run(experiment, dataset, arguments.data_dir)
            begin = partial(initialise, run)
            mapping = arguments.devices.mapping(jax.eval_shape(lambda: begin(jax.random.key(0))))
            parallel.check_divides(mapping.examples, experiment.batch_size, experiment.accumulate)
            if processes.is_first():
                claim(out, run, dataset, held)
            checkpoints = held.enter_context(Checkpoints(out / "checkpoints"))
            laid_out = layout(run, mapping)
            state = checkpoints.restore(laid_out)
            start = 0 if state is None else int(state.step)
            stream = batches(
                dataset,
                seed=experiment.seed,
                batch_size=experiment.batch_size,
                start=start,
                sharding=mapping.examples,
            )
            previews = Previews(run, mapping, dataset, out / "samples")
            stream = chain([next(stream)], stream)  # the first batch shows whether the data can be read

        init_key, key = jax.random.split(jax.random.key(experiment.seed))
        if start < experiment.steps:
            if state is None:
                shardings = jax.tree.map(lambda leaf: leaf.sharding, laid_out)
                state = jax.jit(begin, out_shardings=shardings)(init_key)
            stopped = train(
                *(run, mapping, state, key, stream, checkpoints, previews, out), profile=arguments.profile
            )
    if stopped is not None:
        print(f"{out}: stopped by {stopped.name}, all is saved; the same command continues")
        sys.exit(128 + stopped)
    print(f"{out}: trained to step {max(start, experiment.steps)}")


def read(arguments: Arguments) -> tuple[Experiment, Dataset]:
    """The experiment as its data complete it, and the data.

    Raises:
        ValueError: a number of the experiment is out of its range, or the data do not serve it.
        OSError: the data are not there.
    """
    experiment = arguments.experiment
    experiment.check()
    if experiment.text_encoder is not None:  # a run may be continued from another folder
        encoder = str(Path(experiment.text_encoder).expanduser().absolute())
        experiment = replace(experiment, text_encoder=encoder)
    dataset = run.open_data(experiment, "train", arguments.data_dir)
    order(len(dataset.source), experiment.seed, experiment.batch_size)
    return fitted(experiment, dataset.condition), dataset


def claim(out: Path, run: run.Run, dataset: Dataset, held: ExitStack) -> None:
    """Take the folder for this run, and write what the run is into it."""
    folder.make(out)
    held.enter_context(Lock(out))
    folder.store(out, run)
    if run.experiment.dataset == "folder":
        from experiments.report.contact_sheet import contact_sheet

        contact_sheet(dataset, out / "data.png", getattr(dataset.source, "notes", ()))
        print(f"{out / 'data.png'}: what was read")


def parse(argv: list[str]) -> Arguments:
    """The preset by its name, and its numbers as options."""
    names = sorted(module.name for module in iter_modules(presets.__path__))
    if not argv:
        raise ValueError(f"PRESET is missing: there are {', '.join(names)}")
    if argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nPresets: {', '.join(names)}")
        sys.exit(0)
    if argv[0] not in names:
        raise ValueError(f"PRESET = {argv[0]!r}: there are {', '.join(names)}")
    preset = import_module(f"experiments.presets.{argv[0]}").experiment()
    default = Arguments(out=tyro.MISSING, experiment=preset)
    return tyro.cli(Arguments, default=default, args=argv[1:], prog=f"python -m experiments.train {argv[0]}")


if __name__ == "__main__":
    script(main)
