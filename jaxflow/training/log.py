"""What a run says while it goes on: a progress bar, lines of JSON and TensorBoard events in its folder."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from jaxflow.training.events import Events
from jaxflow.training.files import whole

PATIENCE = 20
"""Steps in a row without a finite gradient after which a run gives up."""
LINES, EVENTS = "metrics.jsonl", "tensorboard"


class Log:
    """Means over `every` steps: on the bar, in `metrics.jsonl` and for `tensorboard --logdir`.

    Use as a context manager; its end closes the bar and the files.

        loss                 mean over the steps since the last line
        gradient_norm        global norm of the last gradient, before it is clipped
        images_per_second    of all devices
        waiting_for_data     share of the time in which the loop waited for a batch
        saving               share of the time in which it waited for a checkpoint
        skipped              steps so far that were not finite and changed nothing, as far as lines said so
        utilisation          of the devices' peak, where it is known

    Args:
        folder: of the run; None in processes that do not write. Lines of steps after `start` are removed,
            they will be done again.
        start: steps done before.
        steps: of the whole run.
        batch_size: examples in a step.
        every: steps from line to line.
        utilisation: seconds of a step -> share of the peak.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        start: int,
        steps: int,
        batch_size: int,
        every: int,
        utilisation: Callable[[float], float | None] = lambda seconds: None,
    ):
        self._every, self._batch_size, self._utilisation = every, batch_size, utilisation
        self._folder, self._file, self._events = folder, None, None
        self._in_a_row = self._skipped = 0
        if folder is not None:
            self._skipped = _forget(folder, after=start)
            self._file = (folder / LINES).open("a")
            self._events = Events(folder / EVENTS, start)
        self._bar = tqdm(
            total=steps, initial=start, unit="step", desc="train", dynamic_ncols=True, disable=folder is None
        )
        self._losses: list[float] = []
        self._unasked: list[float] = []
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
        """Count the time inside as no time of the run."""
        since = time.perf_counter()
        yield
        self._since += time.perf_counter() - since

    def record(self, n: int, metrics: dict) -> None:
        """Take the metrics of step n, waiting until the device has them.

        Raises:
            FloatingPointError: the last `PATIENCE` steps had no finite loss or gradient.
        """
        values = jax.device_get(metrics)
        self._losses.append(float(values["loss"]))
        self._unasked.append(float(values["loss"]))
        self._skipped += int(values["skipped"])
        self._in_a_row = self._in_a_row + 1 if values["skipped"] else 0
        if self._in_a_row >= PATIENCE:
            raise FloatingPointError(
                f"step {n}: no finite loss or gradient in {PATIENCE} steps; lower learning_rate"
            )
        self._bar.update()
        if n % self._every == 0:
            self._write(n, float(values["gradient_norm"]))

    def mean_loss(self) -> float:
        """Mean of the losses since it was last asked for."""
        losses, self._unasked = self._unasked, []
        return float(np.mean(losses))

    def picture(self, n: int, image: UInt8[np.ndarray, "h w *c"]) -> None:
        """An image made at step n, for TensorBoard."""
        if self._events is not None:
            with self._writing():
                self._events.image(n, "samples", image)

    def _write(self, n: int, gradient_norm: float) -> None:
        seconds = time.perf_counter() - self._since
        line = {
            "step": n,
            "loss": float(np.mean(self._losses)),
            "gradient_norm": gradient_norm,
            "images_per_second": len(self._losses) * self._batch_size / seconds,
            **{name: waited / seconds for name, waited in self._waited.items()},
            "skipped": self._skipped,
        }
        used = self._utilisation(seconds / len(self._losses))
        if used is not None:
            line["utilisation"] = used
        self._losses, self._since = [], time.perf_counter()
        self._waited = dict.fromkeys(self._waited, 0.0)
        self._show(line)
        if self._file is None or self._events is None:
            return
        with self._writing():
            print(json.dumps(line), file=self._file, flush=True)
            self._events.scalars(n, {name: value for name, value in line.items() if name != "step"})

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self._folder}: the log cannot be written, the checkpoints are whole: {error}"
            ) from error

    def _show(self, line: dict[str, float | int]) -> None:
        shown = {
            "loss": f"{line['loss']:.4f}",
            "gradient": f"{line['gradient_norm']:.2g}",
            "images/s": f"{line['images_per_second']:.0f}",
            "data": f"{line['waiting_for_data']:.0%}",
            "saving": f"{line['saving']:.0%}",
        }
        if line["skipped"]:
            shown["skipped"] = f"{line['skipped']}"
        if "utilisation" in line:
            shown["used"] = f"{line['utilisation']:.0%}"
        self._bar.set_postfix(shown)

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        if self._file is not None and self._events is not None:
            self._file.close()
            self._events.close()


def _forget(folder: Path, after: int) -> int:
    """Remove the lines of steps after a step; returns the steps skipped until the last line that is left."""
    kept = [line for line in read(folder) if line["step"] <= after]
    with whole(folder / LINES) as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept[-1].get("skipped", 0) if kept else 0


def read(folder: Path) -> list[dict]:
    """The lines of a run's log; without those that were being written when it was killed."""
    file, lines = folder / LINES, []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]
