"""A trace of some steps, as TensorBoard's profiler (`pip install xprof`) and Perfetto show it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax

BEFORE, STEPS = 5, 5
"""Steps before the trace, in which a run becomes steady, and steps in it."""


class Profile:
    """While the context is open, a few of the steps are traced, from beginning to end.

    A step may still run on the devices when the next has been started, but not when the one after that has.

    Args:
        folder: of the traces; None for no trace.
        start: steps done before the run.
    """

    def __init__(self, folder: Path | None, start: int):
        self._folder, self._first, self._tracing = folder, start + BEFORE + 1, False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    @contextmanager
    def step(self, n: int) -> Iterator[None]:
        """What is done inside starts step n."""
        if self._folder is not None and n == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        if n == self._first + STEPS + 1:
            self._stop()
        traced = n < self._first + STEPS
        with jax.profiler.StepTraceAnnotation("train", step_num=n) if traced else nullcontext():
            yield

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
