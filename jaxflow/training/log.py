"""What a run says while it goes on: a progress bar, and lines of JSON in its folder."""

import json
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

PATIENCE = 20
"""Steps in a row without a finite gradient after which a run gives up."""


class Log:
    """Means over `every` steps, on the bar and in `file`.

    Args:
        file: JSON lines; lines of steps after `start` are removed, they will be done again.
        start: steps done before.
        steps: of the whole run.
        batch_size: examples in a step.
        every: steps from line to line.
    """

    def __init__(self, file: Path, *, start: int, steps: int, batch_size: int, every: int):
        self._every, self._batch_size = every, batch_size
        kept = [line for line in read(file) if line["step"] <= start]
        file.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = file.open("a")
        self._bar = tqdm(total=steps, initial=start, unit="step", desc="train", dynamic_ncols=True)
        self._losses: list[float] = []
        self._unasked: list[float] = []
        self._not_finite = 0
        self._since = time.perf_counter()
        self.waited = 0.0
        """Seconds spent waiting for data since the last line."""

    def record(self, n: int, metrics: dict) -> None:
        """Take the metrics of step n, waiting until the device has them.

        Raises:
            FloatingPointError: the last `PATIENCE` steps had no finite loss or gradient.
        """
        values = jax.device_get(metrics)
        self._losses.append(float(values["loss"]))
        self._unasked.append(float(values["loss"]))
        self._not_finite = self._not_finite + 1 if values["skipped"] else 0
        if self._not_finite >= PATIENCE:
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

    def _write(self, n: int, gradient_norm: float) -> None:
        seconds = time.perf_counter() - self._since
        line = {
            "step": n,
            "loss": float(np.mean(self._losses)),
            "gradient_norm": gradient_norm,
            "images_per_second": len(self._losses) * self._batch_size / seconds,
            "waiting_for_data": self.waited / seconds,
        }
        print(json.dumps(line), file=self._file, flush=True)
        self._bar.set_postfix({"loss": f"{line['loss']:.4f}", "images/s": f"{line['images_per_second']:.0f}"})
        self._losses, self._since, self.waited = [], time.perf_counter(), 0.0

    def close(self) -> None:
        """End the bar and the file."""
        self._bar.close()
        self._file.close()


def read(file: Path) -> list[dict]:
    """The lines of a log; without those that were being written when the run was killed."""
    lines = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]
