"""Train a preset, and continue where it stopped if it was stopped.

    python -m experiments.train PRESET --out DIR [--steps N] [--seed S] [--data-dir DIR]

Every number of the preset can be set; `python -m experiments.train PRESET --help` lists them.
"""

import sys
import time
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
from experiments.cli import refusing
from experiments.contact_sheet import contact_sheet
from experiments.experiment import Experiment, fitted
from jaxflow import losses, predictions, times
from jaxflow.data.batches import batches, order
from jaxflow.data.images import to_float
from jaxflow.training import compiler, optimizer, parallel
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.interruption import Interruption
from jaxflow.training.log import Log
from jaxflow.training.step import Loss, initial_state, train_step

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


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    with refusing():
        arguments = parse(sys.argv[1:] if argv is None else argv)
        experiment, out = arguments.experiment, arguments.out
        experiment.check()
        if experiment.text_encoder is not None:  # a run may be continued from another folder
            encoder = str(Path(experiment.text_encoder).expanduser().absolute())
            experiment = replace(experiment, text_encoder=encoder)
        dataset = runs.open_data(experiment, "train", arguments.data_dir)
        experiment = fitted(experiment, dataset.condition)
        order(len(dataset.source), experiment.seed, experiment.batch_size)
        examples = parallel.over_examples()
        parallel.check_divides(examples, experiment.batch_size)
        run = runs.start_or_resume(out, experiment, dataset, arguments.data_dir)
        if experiment.dataset == "folder":
            contact_sheet(dataset, out / "data.png", getattr(dataset.source, "notes", ()))
            print(f"{out / 'data.png'}: what was read")

    transform = optimizer_of(experiment)
    init_key, key = jax.random.split(jax.random.key(experiment.seed))

    @partial(jax.jit, out_shardings=parallel.replicated(examples))
    def initialise(key):
        return initial_state(run.initial_params(key), transform)

    step = jax.jit(
        partial(train_step, loss=guided_loss(run), optimizer=transform, ema_decay=experiment.ema),
        donate_argnums=0,
        compiler_options=compiler.options(),
    )

    with Checkpoints(out / "checkpoints") as checkpoints, Interruption() as interruption:
        state = initialise(init_key)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        start = int(state.step)
        stream = batches(
            dataset, seed=experiment.seed, batch_size=experiment.batch_size, start=start, sharding=examples
        )
        log = Log(
            out / "metrics.jsonl",
            start=start,
            steps=experiment.steps,
            batch_size=experiment.batch_size,
            every=experiment.log_every,
        )
        metrics = None
        for n in range(start, experiment.steps):
            asked = time.perf_counter()
            batch = next(stream)
            log.waited += time.perf_counter() - asked
            previous, (state, metrics) = metrics, step(state, key, batch)
            if previous is not None:  # of the step before, so that the device never waits for the log
                log.record(n, previous)
            if interruption.signal or (n + 1) % experiment.checkpoint_every == 0 or n + 1 == experiment.steps:
                log.record(n + 1, metrics)
                metrics = None
                checkpoints.save(state)
            if interruption.signal:
                log.close()
                print(f"stopped by {interruption.signal.name} after step {n + 1}; the same command continues")
                sys.exit(128 + interruption.signal)
        log.close()
    print(f"{out}: trained to step {max(start, experiment.steps)}")


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
        y = losses.drop_condition(drop_key, batch["y"], run.null, experiment.condition_dropout)

        def network(x, t, y):
            rngs = {"dropout": dropout_key}
            return experiment.network.apply({"params": params}, x, t, y, train=True, rngs=rngs)

        loss = matching(match_key, network, experiment.path, data, y)
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
    main()
