"""The loop of training: any loss of parameters and a batch, over steps, with checkpoints and a log.

    state = fit(objective, init, batches, optimizer=adam, seed=0, steps=1000, out="runs/mine")

The same call resumes a run that was interrupted by Ctrl-C, SIGTERM, SIGHUP or kill -9. Scripts and programs
of your own share this loop: it compiles, logs, saves and samples previews between the steps.
"""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from signal import SIGINT, Signals
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, UInt8

from jaxflow import ranges
from jaxflow.devices import compiler, parallel, processes
from jaxflow.devices.parallel import Placement, Program
from jaxflow.places import Place, place
from jaxflow.training import flops
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.feed import Batches, Feed
from jaxflow.training.interruption import Interruption
from jaxflow.training.lock import Lock
from jaxflow.training.log import Log
from jaxflow.training.profile import Profile
from jaxflow.training.step import Objective, Params, TrainState, initial_state, train_step

Init = Callable[[PRNGKeyArray], Params]
"""A random key -> the initial parameters."""


@runtime_checkable
class Pictures(Protocol):
    """Previews sampled during training."""

    def are_due(self, n: int) -> bool:
        """Whether to sample after step n."""
        ...

    def are_missing(self, n: int) -> bool:
        """Whether the training was interrupted after step n, before it could sample."""
        ...

    def draw(self, n: int, params: Params) -> UInt8[np.ndarray, "h w *c"]:
        """Sample with the moving average of the parameters."""
        ...


class Training:
    """A training ready to run: its state restored, its first batch read. Use as a context manager.

    Args:
        objective: (params, key, batch) -> the loss of each example, (b,).
        init: makes the initial parameters, if there is no checkpoint; None to start from `base`.
        batches: step -> the batches after it.
        optimizer: an optax transformation.
        seed: of initial parameters and losses.
        steps: of the whole training, including those done before.
        out: folder of checkpoints and logs.
        ema_decay: of the moving average of the parameters, which is used for sampling.
        accumulate: micro-batches per step, computed one by one.
        checkpoint_every: largest number of steps that a kill can lose.
        log_every: steps between lines of the log.
        placement: of state and batches on devices; one device if None. Batches are sharded as its `examples`.
        base: pretrained parameters, which are given up to the training. If `init` makes others, these stay
            frozen, and the objective and the previews take the pair of both.
        pictures: previews sampled during training.
        profile: trace a few steps into `out`.

    Raises:
        ValueError: a number is out of range, or the checkpoints are of another network.
        OSError: a batch cannot be read, or the folder cannot be written.
    """

    def __init__(
        self,
        objective: Objective,
        init: Init | None,
        batches: Batches,
        *,
        optimizer: optax.GradientTransformation,
        seed: int,
        steps: int,
        out: Place,
        ema_decay: float = 0.999,
        accumulate: int = 1,
        checkpoint_every: int = 500,
        log_every: int = 50,
        placement: Placement | None = None,
        base: Params = None,
        pictures: Pictures | None = None,
        profile: bool = False,
    ):
        ranges.at_least(1, steps=steps, accumulate=accumulate, log_every=log_every)
        if steps >= 2**31:
            raise ValueError(f"steps = {steps}: must be below 2**31, the steps that an int32 counts")
        ranges.at_least(2, checkpoint_every=checkpoint_every)
        ranges.fraction(ema_decay=ema_decay)
        ranges.seed(seed)
        self._seed, self._objective, self._optimizer = seed, objective, optimizer
        self._numbers = {"ema_decay": ema_decay, "accumulate": accumulate}
        self._steps, self._out, self._log_every, self._profile = steps, out, log_every, profile
        # A save waits for the previous one, so a kill loses at most two intervals.
        self._save_every = checkpoint_every // 2
        self._placement = parallel.placement("jit") if placement is None else placement
        self._pictures = pictures
        self._begin, self._base = jax.jit(partial(_initialise, init, optimizer, seed)), base
        self._layout = self._placement.shard(jax.eval_shape(self._begin, base))
        self._checkpoints = Checkpoints(out / "checkpoints")
        self._state = self._checkpoints.restore(self._layout)
        self.start = 0 if self._state is None else int(self._state.step)
        """Steps done before."""
        if self.start < steps:  # the first batch shows whether the data can be read
            self._feed = Feed(batches, self.start, self._placement.examples)
            parallel.check_divides(self._placement.examples, self._feed.size, accumulate)

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: Any) -> None:
        self._checkpoints.__exit__()

    def run(self) -> Signals | None:
        """Train to the last step, or until a signal asks to stop; returns the signal."""
        if self.start >= self._steps:
            return None
        placement, state = self._placement, self._state
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self._layout)
        if state is None:
            state = jax.jit(self._begin, out_shardings=shardings)(self._base)
        elif shardings.frozen is not None:
            state = replace(state, frozen=jax.device_put(self._base, shardings.frozen))
        self._base = None
        # Until this has compiled, a signal ends the process at once: nothing is lost.
        key = placement.everywhere(_keys(self._seed)[1])
        program = self._program(key)
        self._state, state = None, placement.replicate(state)
        largest = processes.largest(placement.examples)
        with (
            Interruption() as interruption,
            Log(
                self._out if processes.is_first() else None,
                start=self.start,
                steps=self._steps,
                batch_size=self._feed.size,
                every=self._log_every,
                utilisation=self.utilisation(),
            ) as report,
            Profile(self._out / "profile" if self._profile else None, self.start) as trace,
        ):

            def draw(n: int, state: TrainState) -> None:
                assert self._pictures is not None
                with report.pause():
                    gathered = placement.gather(state)
                    report.picture(n, self._pictures.draw(n, gathered.with_frozen(gathered.ema)))

            if self._pictures is not None and self._pictures.are_missing(self.start):
                draw(self.start, state)
            batch, metrics, stop, ended = self._feed.first, None, 0, False
            for n in range(self.start + 1, self._steps + 1):
                asked = largest(interruption.signal or 0)
                with trace.step(n), jax.transfer_guard_host_to_device("disallow"):
                    previous, (state, metrics) = metrics, program(state, key, batch)
                if previous is not None:  # of the previous step, so that the device never waits for the log
                    report.record(n - 1, previous)
                stop = int(jax.device_get(asked))  # all processes stop after the same step
                if n < self._steps and not stop:
                    with report.waiting("waiting_for_data"):
                        batch = self._feed.next()
                    ended = batch is None
                if stop or ended or n % self._save_every == 0 or n == self._steps:
                    report.record(n, metrics)
                    metrics = None
                    with report.waiting("saving"):
                        self._checkpoints.save(placement.gather(state), report.mean_loss())
                if ended:
                    self._checkpoints.wait()
                    raise ValueError(
                        f"batches end after step {n}, which is saved: expected steps = {self._steps}"
                    )
                if stop and n < self._steps:
                    break
                if self._pictures is not None and self._pictures.are_due(n):
                    draw(n, state)
            self._checkpoints.wait()
        self._state = placement.gather(state)
        return Signals(stop) if stop else None

    @property
    def state(self) -> TrainState:
        """After `run`, or as restored."""
        assert self._state is not None
        return self._state

    def utilisation(self) -> Callable[[float], float | None]:
        """Seconds of a step -> model FLOPs utilisation; None if the devices' peak is not known."""
        devices = list(self._placement.examples.mesh.devices.flat)
        if flops.peak(devices[0]) is None:
            return lambda seconds: None
        key = jax.random.key(0)
        params = self._layout.with_frozen(self._layout.params)
        operations = flops.count_training(self._objective, params, key, self._feed.first)
        return lambda seconds: flops.utilisation(operations, seconds, devices)

    def _program(self, key: PRNGKeyArray) -> Program:
        arguments = _frozen((self._layout, _shape(key), jax.tree.map(_shape, self._feed.first)))
        numbers = tuple(self._numbers.items())
        return compiled(self._objective, self._optimizer, numbers, self._placement, *arguments)


def fit(
    objective: Objective, init: Init, batches: Batches, *, out: str | os.PathLike, **options: Any
) -> TrainState:
    """Train to the last step, or resume; arguments and errors are those of `Training`.

    The folder is locked by one training at a time. A signal stops it after a step and a save: Ctrl-C raises a
    KeyboardInterrupt, SIGTERM and SIGHUP exit with code 128 and their number.
    """
    folder = place(out, "out")
    folder.mkdir(parents=True, exist_ok=True)
    held = Lock(folder) if processes.is_first() else nullcontext()
    with held, Training(objective, init, batches, out=folder, **options) as training:
        stopped = training.run()
        if stopped == SIGINT:
            raise KeyboardInterrupt
        if stopped is not None:
            sys.exit(128 + stopped)
        return training.state


@cache
def compiled(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    numbers: tuple[tuple[str, Any], ...],
    placement: Placement,
    tree: Any,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
) -> Program:
    """The step as a program; compiled once per process, in which a training may be resumed."""
    state, key, batch = jax.tree.unflatten(tree, shapes)
    step = partial(train_step, loss=objective, optimizer=optimizer, **dict(numbers))
    return placement.compile(step, state, key, batch, compiler.options(placement.platform))


def _initialise(
    init: Init | None, optimizer: optax.GradientTransformation, seed: int, base: Params
) -> TrainState:
    if init is None:
        return initial_state(base, optimizer)
    return initial_state(init(_keys(seed)[0]), optimizer, base)


def _keys(seed: int) -> jax.Array:
    """Of the parameters, and of the steps."""
    return jax.random.split(jax.random.key(seed))


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _frozen(arguments: Any) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
    leaves, tree = jax.tree.flatten(arguments)
    return tree, tuple(leaves)
