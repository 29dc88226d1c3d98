"""Progress of long work: a bar on a terminal; under nohup or in a pipe a plain line at most once a minute.

Everything goes to standard error. With several processes only one reports; the others call `silence`.
"""

import bisect
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining} left, {rate_fmt}]{postfix}"
LINE = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_fmt}]{postfix}"
INTERVAL = 60.0
"""Seconds between plain lines."""
_silent = False


def silence() -> None:
    """Report nothing from this process."""
    global _silent
    _silent = True


def say(text: str) -> None:
    """Print a line without breaking a bar that is being drawn."""
    if not _silent and sys.stderr is not None:
        with suppress(OSError, ValueError):  # nobody reads it: no reason to fail
            tqdm.write(text, file=sys.stderr)


def over(items: Iterable[T], name: str, *, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Iterate over the items, with a bar after one second that is removed at the end."""
    size = len(items) if total is None and isinstance(items, Sized) else total
    with Progress(size or 0, name, unit=unit, delay=1.0, leave=False) as progress:
        for item in items:
            yield item
            progress.advance()


class Progress:
    """Progress through `total` units. Use as a context manager.

    Args:
        total: units of the whole work.
        name: of the work, at the start of the line.
        unit: name of a unit.
        done: units done before, which do not count for the rate.
        delay: seconds before a bar appears.
        leave: keep the bar, or a last line, when the work ends.
        silent: report nothing.
    """

    def __init__(
        self,
        total: int,
        name: str,
        *,
        unit: str = "it",
        done: int = 0,
        delay: float = 0.0,
        leave: bool = True,
        silent: bool = False,
    ):
        stream = sys.stderr
        silent = silent or _silent or stream is None
        self._lines = not silent and not _is_terminal(stream)
        self._of: dict[str, Any] = {"total": total, "initial": done, "unit": unit, "prefix": name}
        self._done, self._note, self._leave = done, "", leave
        self._since = self._printed = time.monotonic()
        options: dict[str, Any] = {"delay": delay, "leave": leave, "disable": silent or self._lines}
        self._bar = tqdm(
            *(None, name, total),
            **{"initial": done, "unit": unit, "bar_format": BAR, "dynamic_ncols": True, **options},
        )

    def __enter__(self) -> "Progress":
        return self

    def advance(self, n: int = 1) -> None:
        """Count n more units."""
        self._done += n
        with suppress(OSError, ValueError):
            self._bar.update(n)
        if self._lines and time.monotonic() - self._printed >= INTERVAL:
            self._print()

    def note(self, text: str) -> None:
        """Text to show after the counts, such as the loss."""
        self._note = text
        with suppress(OSError, ValueError):
            self._bar.set_postfix_str(text, refresh=False)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Clear the bar, and exclude the time inside from the rate."""
        since = time.monotonic()
        with suppress(OSError, ValueError):
            self._bar.clear()
        yield
        paused = time.monotonic() - since
        self._since += paused
        if not self._bar.disable:
            self._bar.start_t += paused

    @property
    def done(self) -> int:
        """Units done since the start."""
        return self._done - self._of["initial"]

    def seconds(self) -> float:
        """Time since the start, without pauses."""
        return time.monotonic() - self._since

    def rate(self) -> float:
        """Units a second."""
        return self.done / max(self.seconds(), 1e-9)

    def _print(self) -> None:
        self._printed = time.monotonic()
        elapsed = {"elapsed": self.seconds(), "rate": self.rate()}
        say(tqdm.format_meter(self._done, **elapsed, bar_format=LINE, postfix=self._note, **self._of))

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError, ValueError):
            if self._leave:
                self._bar.refresh()
            self._bar.close()
        if self._lines and self._leave and self.done:
            self._print()


class Steps:
    """A bar over the steps of a compiled loop, which reports its time by `at`.

    Args:
        grid: increasing times of the steps, (n + 1,).
    """

    def __init__(self, grid: Iterable[Any]):
        self._grid, self._block, self._step = [float(t) for t in grid], 0, 0
        self._bar: Progress | None = None

    @contextmanager
    def shown(self, name: str, blocks: int, visible: bool) -> Iterator[None]:
        """Show the bar, for a number of runs of the loop."""
        steps = len(self._grid) - 1
        with Progress(blocks * steps, name, unit="step", leave=False, silent=not visible) as self._bar:
            self._block = self._step = 0
            yield
        self._bar = None

    def at(self, t: Any) -> None:
        """The loop has come to t."""
        step = min(bisect.bisect_right(self._grid, float(t) + 1e-6) - 1, len(self._grid) - 2)
        if step < self._step:  # the next block
            self._block += 1
        self._step = step
        now = self._block * (len(self._grid) - 1) + step
        if self._bar is not None and now > self._bar.done:
            self._bar.advance(now - self._bar.done)


def _is_terminal(stream: Any) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream.isatty()
    return False
