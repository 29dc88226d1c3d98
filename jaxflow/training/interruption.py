"""Stopping on request: SIGTERM (preemption), SIGHUP (a closed terminal) and Ctrl-C end a run after a step.

The loop reads the flag before it starts a step and waits for that step to end: the run stops after the step
in progress or the next one.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a program to end; Windows has no SIGHUP."""


def heeded() -> list[signal.Signals]:
    """Those that this process does not already ignore, as it does under `nohup`."""
    return [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]


class Interruption:
    """While the context is open, the first signal is recorded in `signal` and work continues.

    A second one ends the process at once: the files on disk are intact at any moment. Only the main thread
    receives signals; in another thread nothing changes.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "Interruption":
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in heeded() if in_main_thread}
        for number in self._before:
            signal.signal(number, self._record)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)
