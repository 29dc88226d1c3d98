"""Train a preset, and continue where it stopped if it was stopped.

    python -m experiments.train PRESET --out DIR [--steps N] [--seed S] [--data-dir DIR]

Every number of the preset can be set; `python -m experiments.train PRESET --help` lists them.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import presets, runs
from experiments.cli import refusing, script
from experiments.contact_sheet import contact_sheet
from experiments.experiment import Experiment, fitted
from jaxflow import losses, per_example, predictions, times
from jaxflow.data.batches import Batch, batches, order
from jaxflow.data.dataset import Dataset
from jaxflow.data.images import to_float
from jaxflow.training import compiler, log, optimizer, parallel
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.interruption import Interruption
from jaxflow.training.lock import Lock
from jaxflow.training.parallel import Kind
from jaxflow.training.step import Loss, TrainState, initial_state, train_step

LARGEST_WEIGHT = 10.0
"""Of the error of predicted data in the loss; on the linear path that of t = 0.68.

With the weights of flow matching beyond it, a few examples near the data would make up the gradients of their
batches, and what the early times teach would drown; Hang et al. 2303.09556 bound the weight likewise.
"""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    out: Path
    """The run folder."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    data_dir: str | None = None
    """Folder of the prepared data sets; default: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    parallel: Kind = "auto"
    """How the step is laid over devices: jit on one, pmap or data with a copy of the state on each, fsdp with
    the state split over them. auto chooses by their number and memory."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    with ExitStack() as held:
        with refusing():
            arguments = parse(sys.argv[1:] if argv is None else argv)
            out = arguments.out
            experiment, dataset = read(arguments)
            run = runs.new_run(experiment, dataset, arguments.data_dir)
            transform = optimizer_of(experiment)
            init_key, key = jax.random.split(jax.random.key(experiment.seed))

            def initialise(key):
                return initial_state(run.initial_params(key), transform)

            shapes = jax.eval_shape(initialise, init_key)
            state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
            mapping = parallel.mapping(arguments.parallel, state_bytes)
            parallel.check_divides(mapping.examples, experiment.batch_size, experiment.accumulate)
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(Lock(out))
            runs.store(out, run)
            if experiment.dataset == "folder":
                contact_sheet(dataset, out / "data.png", getattr(dataset.source, "notes", ()))
                print(f"{out / 'data.png'}: what was read")

            checkpoints = held.enter_context(Checkpoints(out / "checkpoints"))
            layout = mapping.lay_out(shapes)
            state = checkpoints.restore(layout)
            if state is None:
                check_is_new(out, experiment)
            start = 0 if state is None else int(state.step)
            stream = batches(
                dataset,
                seed=experiment.seed,
                batch_size=experiment.batch_size,
                start=start,
                sharding=mapping.examples,
            )

        if start < experiment.steps:
            if state is None:
                shardings = jax.tree.map(lambda leaf: leaf.sharding, layout)
                state = jax.jit(initialise, out_shardings=shardings)(init_key)
            train(run, out, checkpoints, mapping, state, key, stream)
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
    dataset = runs.open_data(experiment, "train", arguments.data_dir)
    order(len(dataset.source), experiment.seed, experiment.batch_size)
    return fitted(experiment, dataset.condition), dataset


def check_is_new(out: Path, experiment: Experiment) -> None:
    """Refuse to start over in a folder whose checkpoints are gone.

    A save waits for the one before, so that a log beyond two intervals proves a checkpoint.
    """
    logged = max((line["step"] for line in log.read(out / "metrics.jsonl")), default=0)
    if logged > 2 * experiment.checkpoint_every:
        raise ValueError(
            f"{out} was trained to step {logged} and has no checkpoint any more: choose another --out, or"
            f" delete {out / 'metrics.jsonl'} to start over"
        )


def train(
    run: runs.Run,
    out: Path,
    checkpoints: Checkpoints,
    mapping: parallel.Mapping,
    state: TrainState,
    key: jax.Array,
    stream: Iterator[Batch],
) -> None:
    """From `state` to the last step; exits where a signal asks for it, after a checkpoint."""
    experiment = run.experiment
    batch = next(stream)
    start, state = int(state.step), mapping.spread(state)
    step = partial(
        train_step,
        loss=guided_loss(run),
        optimizer=optimizer_of(experiment),
        ema_decay=experiment.ema,
        accumulate=experiment.accumulate,
    )
    # A signal until this has compiled ends the process at once: nothing is lost.
    program = mapping.compile(step, state, key, batch, compiler.options())

    report = log.Log(
        out / "metrics.jsonl",
        start=start,
        steps=experiment.steps,
        batch_size=experiment.batch_size,
        every=experiment.log_every,
    )
    metrics = None
    with Interruption() as interruption:
        for n in range(start + 1, experiment.steps + 1):
            previous, (state, metrics) = metrics, program(state, key, batch)
            if previous is not None:  # of the step before, so that the device never waits for the log
                report.record(n - 1, previous)
            if interruption.signal or n % experiment.checkpoint_every == 0 or n == experiment.steps:
                report.record(n, metrics)
                metrics = None
                checkpoints.save(mapping.gather(state), report.mean_loss())
            if interruption.signal:
                checkpoints.wait()
                report.close()
                print(f"stopped by {interruption.signal.name} after step {n}; the same command continues")
                sys.exit(128 + interruption.signal)
            asked = time.perf_counter()
            batch = next(stream)
            report.waited += time.perf_counter() - asked
        checkpoints.wait()
    report.close()


def optimizer_of(experiment: Experiment) -> optax.GradientTransformation:
    """The optimiser with the numbers of the experiment."""
    return {"adamw": optimizer.adamw, "muon": optimizer.muon}[experiment.optimizer](
        experiment.learning_rate,
        steps=experiment.steps,
        warmup=experiment.warmup,
        weight_decay=experiment.weight_decay,
        clip=experiment.clip,
    )


def guided_loss(run: runs.Run) -> Loss:
    """Flow matching with condition dropout, a mean over pixels and channels, (b,).

    Of a network of the data it is the error of the data with the weight of flow matching, up to
    `LARGEST_WEIGHT`, since that is infinite at t = 1.
    """
    experiment = run.experiment
    logit_normal = times.logit_normal_law(experiment.time_mean, experiment.time_deviation)
    law = {"uniform": times.uniform_law(), "logit_normal": logit_normal}[experiment.time_law]

    def weight(t):
        of_velocity = predictions.gain(experiment.path, t, source="data", target="velocity") ** 2
        return jnp.minimum(of_velocity, LARGEST_WEIGHT)

    matching: losses.Loss = partial(losses.flow_matching, time_law=law)
    if experiment.prediction == "data":
        matching = partial(losses.score_matching, prediction="data", weight=weight, time_law=law)

    def loss(params, key, batch):
        drop_key, match_key, dropout_key = jax.random.split(key, 3)
        data = to_float(batch["image"])
        drop_keys = per_example.numbered(drop_key, batch["place"])
        y = losses.drop_condition(drop_keys, batch["y"], run.null, experiment.condition_dropout)

        def network(x, t, y):
            # Of the first example here: under pmap and accumulation dropout is of each part by itself.
            rngs = {"dropout": jax.random.fold_in(dropout_key, batch["place"][0])}
            return experiment.network.apply({"params": params}, x, t, y, train=True, rngs=rngs)

        match_keys = per_example.numbered(match_key, batch["place"])
        loss = matching(match_keys, network, experiment.path, data, y)
        return loss / np.prod(run.image_shape)

    return loss


def parse(argv: list[str]) -> Arguments:
    """The preset by its name, and its numbers as options."""
    names = sorted(module.name for module in iter_modules(presets.__path__))
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nPresets: {', '.join(names)}")
        sys.exit(0 if argv else 2)
    if argv[0] not in names:
        raise ValueError(f"PRESET = {argv[0]!r}: there are {', '.join(names)}")
    preset = import_module(f"experiments.presets.{argv[0]}").experiment()
    default = Arguments(out=tyro.MISSING, experiment=preset)
    return tyro.cli(Arguments, default=default, args=argv[1:], prog=f"python -m experiments.train {argv[0]}")


if __name__ == "__main__":
    script(main)
