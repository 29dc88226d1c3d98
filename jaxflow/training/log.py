"""What a run reports: its progress, lines of JSON and TensorBoard events in its folder."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from jaxflow import progress
from jaxflow.places import Place
from jaxflow.training.events import Events
from jaxflow.training.files import Appendable, atomic_write

PATIENCE = 20
"""Consecutive non-finite steps after which a run is aborted."""
MEASURED_STEPS, MEASURED_SECONDS = 20, 10.0
"""Steps, or seconds, from which the time of the whole run is estimated."""
SHOWN = 0.1
"""Share of time spent waiting above which the bar shows it."""
LINES, EVENTS = "metrics.jsonl", "tensorboard"


class Log:
    """Means over `every` steps, and over the last ones: on the bar, in `metrics.jsonl` and in TensorBoard.

    Use as a context manager; on exit it writes the remaining metrics and closes bar and files.

        loss                 mean over the steps since the last line that were not skipped; null if none
        gradient_norm        global norm of the last gradient, before clipping; null if not finite
        images_per_second    of all devices together
        waiting_for_data     share of the time spent waiting for batches
        saving               share of the time spent waiting for checkpoints
        skipped              non-finite steps so far
        utilisation          model FLOPs utilisation, on devices with a known peak

    Args:
        folder: of the run; None in processes that do not write. Lines after step `start` are removed: those
            steps will be run again.
        start: steps done before.
        steps: of the whole run.
        batch_size: examples in a step.
        every: steps between lines.
        utilisation: seconds of a step -> share of the peak.
    """

    def __init__(
        self,
        folder: Place | None,
        *,
        start: int,
        steps: int,
        batch_size: int,
        every: int,
        utilisation: Callable[[float], float | None] = lambda seconds: None,
    ):
        self._steps, self._every, self._batch_size, self._utilisation = steps, every, batch_size, utilisation
        self._folder, self._file, self._events = folder, None, None
        self._in_a_row = self._skipped = 0
        if folder is not None:
            self._skipped = _forget(folder, after=start)
            self._file = Appendable(folder / LINES)
            self._events = Events(folder / EVENTS, start)
        self._bar = progress.Progress(steps, "train", unit="step", done=start, silent=folder is None)
        self._estimated = folder is None
        self._last = self._written = start
        self._losses: list[float] = []
        self._unsaved: list[float] = []
        self._since = time.perf_counter()
        self._waited = {"waiting_for_data": 0.0, "saving": 0.0}

    def __enter__(self) -> "Log":
        return self

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Count the time inside as `waiting_for_data` or `saving`."""
        since = time.perf_counter()
        yield
        self._waited[name] += time.perf_counter() - since

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time inside from all rates."""
        since = time.perf_counter()
        with self._bar.pause():
            yield
        self._since += time.perf_counter() - since

    def record(self, n: int, metrics: dict) -> None:
        """Take the metrics of step n, waiting until they are computed.

        Raises:
            FloatingPointError: the last `PATIENCE` steps had no finite loss or gradient.
        """
        values = jax.device_get(metrics)
        skipped, self._gradient_norm, self._last = bool(values["skipped"]), float(values["gradient_norm"]), n
        if not skipped:
            self._losses.append(float(values["loss"]))
            self._unsaved.append(float(values["loss"]))
        self._skipped += skipped
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row >= PATIENCE:
            raise FloatingPointError(
                f"step {n}: no finite loss or gradient in {PATIENCE} steps; lower learning_rate"
            )
        self._bar.advance()
        self._estimate(n)
        if n % self._every == 0:
            self._write()

    def mean_loss(self) -> float:
        """Mean loss since the last call, of the steps that were not skipped; infinite if all were."""
        losses, self._unsaved = self._unsaved, []
        return float(np.mean(losses)) if losses else math.inf

    def picture(self, n: int, image: UInt8[np.ndarray, "h w *c"]) -> None:
        """Add an image made at step n to TensorBoard."""
        if self._events is not None:
            with self._writing():
                self._events.image(n, "samples", image)

    def _estimate(self, n: int) -> None:
        """Print once how long the run will take, as soon as its speed is known."""
        measured = self._bar.done >= MEASURED_STEPS or self._bar.seconds() >= MEASURED_SECONDS
        if measured and not self._estimated:
            self._estimated = True
            left = duration(max(1.0, (self._steps - n) / self._bar.rate()))
            progress.say(f"about {left} to step {self._steps}, at {self._bar.rate():.2g} steps/s")

    def _write(self) -> None:
        seconds, steps = time.perf_counter() - self._since, self._last - self._written
        line: dict[str, float | int | None] = {
            "step": self._last,
            "loss": _finite(np.mean(self._losses)) if self._losses else None,
            "gradient_norm": _finite(self._gradient_norm),
            "images_per_second": steps * self._batch_size / seconds,
            **{name: waited / seconds for name, waited in self._waited.items()},
            "skipped": self._skipped,
        }
        used = self._utilisation(seconds / steps)
        if used is not None:
            line["utilisation"] = used
        self._losses, self._since, self._written = [], time.perf_counter(), self._last
        self._waited = dict.fromkeys(self._waited, 0.0)
        self._bar.note(_note(line))
        if self._file is None or self._events is None:
            return
        with self._writing():
            self._file.write(f"{json.dumps(line, allow_nan=False)}\n".encode())
            scalars = {name: value for name, value in line.items() if name != "step" and value is not None}
            self._events.scalars(self._last, scalars)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self._folder}: the log cannot be written, the checkpoints are intact: {error}"
            ) from error

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None and self._last > self._written:
                self._write()
        finally:
            self._bar.__exit__()
            if self._file is not None and self._events is not None:
                self._file.close()
                self._events.close()


def _finite(number: Any) -> float | None:
    """JSON has neither nan nor inf."""
    return float(number) if math.isfinite(number) else None


def _note(line: dict[str, float | int | None]) -> str:
    """The loss and the one thing that matters most next to it: the bar has 80 columns."""
    loss = "no finite loss" if line["loss"] is None else f"loss {line['loss']:.4f}"
    if line["skipped"]:
        return f"{loss}, skipped {line['skipped']}"
    waits = {"data": line["waiting_for_data"] or 0.0, "saving": line["saving"] or 0.0}
    name = max(waits, key=lambda name: waits[name])
    if waits[name] >= SHOWN:
        return f"{loss}, {name} {waits[name]:.0%}"
    if line.get("utilisation") is not None:
        return f"{loss}, MFU {line['utilisation']:.0%}"
    return loss


def duration(seconds: float | int) -> str:
    """A duration in its natural unit.

    >>> [duration(s) for s in (42, 750, 7000, 300_000)]
    ['42 s', '12 min', '1.9 h', '3.5 days']
    """
    for unit, size, until in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def _forget(folder: Place, after: int) -> int:
    """Remove the lines after a step; returns the number of steps skipped up to the last one that stays."""
    kept = [line for line in read(folder) if line["step"] <= after]
    with atomic_write(folder / LINES) as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept[-1].get("skipped", 0) if kept else 0


def read(folder: Place) -> list[dict]:
    """The lines of a run's log, without incomplete ones."""
    file, lines = folder / LINES, []
    for line in file.read_bytes().decode(errors="replace").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(line, parse_constant=lambda name: None))
        except json.JSONDecodeError:
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]
