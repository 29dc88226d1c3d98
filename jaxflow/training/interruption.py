"""Stopping when asked: SIGTERM (preemption) and Ctrl-C end a run after the step in progress."""

import signal
from types import FrameType
from typing import Any


class Interruption:
    """While the context is open, a first signal is noted in `signal` and the work goes on.

    A second one does what it would have done without this.
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
        self.signal = signal.Signals(number)
        self.__exit__()
