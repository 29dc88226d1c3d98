"""The loop of a training run: the compiled step, and what is said, kept and drawn between two steps."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from signal import Signals

import jax
import numpy as np

from jaxflow.runs.objective import guided_loss, optimizer_of
from experiments.report.previews import Previews
from jaxflow.runs.run import Run
from jaxflow.data.batches import Batch
from jaxflow.devices import compiler, processes
from jaxflow.training import flops
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.interruption import Interruption
from jaxflow.training.log import Log
from jaxflow.devices.parallel import Mapping, Step
from jaxflow.training.profile import Profile
from jaxflow.training.step import TrainState, initial_state, train_step


def initialise(run: Run, key: jax.Array) -> TrainState:
    """The state before the first step."""
    return initial_state(run.initial_params(key), optimizer_of(run.experiment))


def layout(run: Run, mapping: Mapping) -> TrainState:
    """Shapes of the state, and how they lie over the devices."""
    return mapping.lay_out(jax.eval_shape(lambda: initialise(run, jax.random.key(0))))


def batch_shapes(run: Run, mapping: Mapping) -> Batch:
    """Shapes of a batch, and how it lies over the devices."""

    def examples(shape: tuple[int, ...], dtype: np.dtype) -> jax.ShapeDtypeStruct:
        size = run.experiment.batch_size
        return jax.ShapeDtypeStruct((size, *shape), dtype, sharding=mapping.examples)

    y = jax.tree.map(lambda leaf: examples(np.shape(leaf), leaf.dtype), run.null)
    image = examples(run.image_shape, np.dtype(np.uint8))
    return {"image": image, "y": y, "place": examples((), np.dtype(np.int32))}


@cache
def compiled_step(run: Run, mapping: Mapping) -> Step:
    """The step of a run as a program; compiled once in a process, where a run may be continued."""
    experiment = run.experiment
    step = partial(
        train_step,
        loss=guided_loss(run),
        optimizer=optimizer_of(experiment),
        ema_decay=experiment.ema,
        accumulate=experiment.accumulate,
    )
    key = mapping.everywhere(jax.random.key(0))
    return mapping.compile(step, layout(run, mapping), key, batch_shapes(run, mapping), compiler.options())


def utilisation(run: Run, mapping: Mapping) -> Callable[[float], float | None]:
    """Seconds of a step -> model FLOPs utilisation; None where the peak of the devices is not known."""
    devices = list(mapping.examples.mesh.devices.flat)
    if flops.peak(devices[0]) is None:
        return lambda seconds: None
    batch, key = batch_shapes(run, mapping), jax.random.key(0)
    operations = flops.count_training(guided_loss(run), layout(run, mapping).params, key, batch)
    return lambda seconds: flops.utilisation(operations, seconds, devices)


def train(
    run: Run,
    mapping: Mapping,
    state: TrainState,
    key: jax.Array,
    stream: Iterator[Batch],
    checkpoints: Checkpoints,
    previews: Previews,
    out: Path,
    *,
    profile: bool = False,
) -> Signals | None:
    """From `state` to the last step, or to the step in which a signal asked for an end; returns the signal.

    Args:
        run: what is trained.
        mapping: on which devices.
        state: laid out; it is consumed.
        key: of the run.
        stream: of batches, from the one after `state`.
        checkpoints: where the state is kept, at the end too.
        previews: what is drawn meanwhile.
        out: the run folder.
        profile: trace a few steps.
    """
    experiment = run.experiment
    # A save waits for the one before: a kill loses two of its intervals at most.
    save_every = experiment.checkpoint_every // 2
    # A signal until this has compiled ends the process at once: nothing is lost.
    program = compiled_step(run, mapping)
    start, steps, key = int(state.step), experiment.steps, mapping.everywhere(key)
    state, batch, metrics = mapping.spread(state), next(stream), None
    largest = processes.largest(mapping.examples)
    with (
        Interruption() as interruption,
        Log(
            out if processes.is_first() else None,
            start=start,
            steps=steps,
            batch_size=experiment.batch_size,
            every=experiment.log_every,
            utilisation=utilisation(run, mapping),
        ) as report,
        Profile(out / "profile" if profile else None, start) as trace,
    ):

        def draw(n: int, state: TrainState) -> None:
            with report.pause():
                report.picture(n, previews.draw(n, mapping.gather(state).ema))

        if previews.are_missing(start):
            draw(start, state)
        for n in range(start + 1, steps + 1):
            asked = largest(interruption.signal or 0)
            with trace.step(n), jax.transfer_guard_host_to_device("disallow"):
                previous, (state, metrics) = metrics, program(state, key, batch)
            if previous is not None:  # of the step before, so that the device never waits for the log
                report.record(n - 1, previous)
            stop = int(jax.device_get(asked))  # all processes end after the same step
            if stop or n % save_every == 0 or n == steps:
                report.record(n, metrics)
                metrics = None
                with report.waiting("saving"):
                    checkpoints.save(mapping.gather(state), report.mean_loss())
            if stop and n < steps:
                break
            if previews.are_due(n):
                draw(n, state)
            if n < steps:
                with report.waiting("waiting_for_data"):
                    batch = next(stream)
        checkpoints.wait()
    return Signals(stop) if stop else None
