"""A trace of some steps, for TensorBoard's profiler (`pip install xprof`) and Perfetto."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax

from jaxflow.places import Place, bucket_errors, filesystem

BEFORE, STEPS = 5, 5
"""Warm-up steps before the trace, and steps in it."""


class Profile:
    """While the context is open, a few of the steps are traced, from beginning to end.

    A step may still run on the devices when the next one starts, but not when the one after that starts.

    Args:
        folder: of the traces; None for no trace.
        start: steps done before the run.
    """

    def __init__(self, folder: Place | None, start: int):
        self._folder, self._first, self._tracing = folder, start + BEFORE + 1, False
        self._aside: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    @contextmanager
    def step(self, n: int) -> Iterator[None]:
        """Around the start of step n."""
        if self._folder is not None and n == self._first:
            self._start()
        if n == self._first + STEPS + 1:
            self._stop()
        traced = n < self._first + STEPS
        with jax.profiler.StepTraceAnnotation("train", step_num=n) if traced else nullcontext():
            yield

    def _start(self) -> None:
        if not isinstance(self._folder, Path):  # the profiler writes to this machine only
            self._aside = tempfile.TemporaryDirectory(prefix="jaxflow-")
        jax.profiler.start_trace(str(self._folder if self._aside is None else self._aside.name))
        self._tracing = True

    def _stop(self) -> None:
        if not self._tracing:
            return
        self._tracing = False
        jax.profiler.stop_trace()
        if self._aside is not None:
            with self._aside, bucket_errors(self._folder):
                filesystem().put(f"{self._aside.name}/", f"{self._folder}/", recursive=True)
