"""Stopping when asked: SIGTERM (preemption) and Ctrl-C end a run after a step.

The loop asks for it before it starts a step, whose end it waits for: it is the step in progress, or the next.
"""

import os
import signal
from types import FrameType
from typing import Any


class Interruption:
    """While the context is open, a first signal is noted in `signal` and the work goes on.

    A second one ends the process at once: what is on disk is whole at every moment.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)
