"""When pictures of a training are due."""

from dataclasses import dataclass

from jaxflow.devices import processes
from jaxflow.places import Place


@dataclass(frozen=True)
class Due:
    """Every so many steps, and after the last one.

    Attributes:
        every: steps; 0 for never.
        steps: of the whole training.
        out: folder of the figures, `step=N.png`.
    """

    every: int
    steps: int
    out: Place

    def after(self, n: int) -> bool:
        """Whether a figure is due after step n."""
        return self.every > 0 and (n % self.every == 0 or n == self.steps)

    def missing(self, n: int) -> bool:
        """Whether an interruption after step n left it unwritten; equal in all processes."""
        due = n > 0 and self.after(n)
        return due and bool(processes.of_first(not self.file(n).exists()))

    def file(self, n: int) -> Place:
        """The figure of step n."""
        return self.out / f"step={n}.png"
