"""What the images of one table or page differ in: the guidance scale, and of a flow map also the calls."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxflow import ranges
from jaxflow.runs.sampler import JUMP, Sampler

CALLS = (1, 2, 4)
"""Of a flow map whose number of calls was not given."""
MOST_CALLS = 100
"""Numbers of calls, and calls."""


class Setting(NamedTuple):
    """A guidance scale, and the calls of a flow map; of a field, whose solver has steps instead, None."""

    w: float
    calls: int | None = None

    @property
    def name(self) -> str:
        """As a row of a table.

        >>> Setting(2.0).name, Setting(2.0, 1).name
        ('2', '2, 1 call')
        """
        scale = scale_name(self.w)
        return scale if self.calls is None else f"{scale}, {called(self.calls)}"

    @property
    def file(self) -> str:
        """As a file without its ending.

        >>> Setting(-0.0).file, Setting(2.0, 1).file
        ('w=0', 'w=2-calls=1')
        """
        name = f"w={scale_name(self.w + 0.0)}"  # 0.0 also for -0.0
        return name if self.calls is None else f"{name}-calls={self.calls}"


def called(calls: int) -> str:
    """A number of calls in words.

    >>> called(1), called(2)
    ('1 call', '2 calls')
    """
    return f"{calls} call{'s'[: calls - 1]}"


def scale_name(w: float) -> str:
    """A scale with enough digits to be unique.

    >>> [scale_name(w) for w in (2.0, 0.1, 1.000001, 123456.75, 1e-300)]
    ['2', '0.1', '1.000001', '123456.75', '1e-300']
    """
    short = f"{w:g}"
    return short if float(short) == w else repr(float(w))


def columns(settings: Sequence[Setting]) -> dict[str, list[Any]]:
    """The scales, and of a map the calls, of the rows of a table.

    >>> columns([Setting(2.0)]), columns([Setting(2.0, 1)])
    ({'w': [2.0]}, {'w': [2.0], 'calls': [1]})
    """
    calls = [setting.calls for setting in settings if setting.calls is not None]
    return {"w": [setting.w for setting in settings]} | ({"calls": calls} if calls else {})


def samplers_of(sampler: Sampler, calls: Sequence[int], *, is_map: bool) -> dict[int | None, Sampler]:
    """The samplers to compare, by the calls of a flow map; that given, where a field is integrated.

    Args:
        sampler: with a solver, integrates the field of a map too.
        calls: of a map; if empty, `CALLS`.
        is_map: whether the model jumps.

    Raises:
        ValueError: a field was to jump, or an option contradicts the jumps.
    """
    if not is_map or sampler.solver is not None:
        if calls:
            why = "the model is a field; train a map with --objective" if not is_map else "--solver has steps"
            raise ValueError(f"calls = {' '.join(map(str, calls))}: {why}")
        return {None: sampler}
    if sampler.steps != Sampler.steps:
        raise ValueError(f"steps = {sampler.steps}: a flow map jumps, give --calls; or a --solver")
    ranges.at_least(1, MOST_CALLS, **{"number of --calls": max(1, len(calls))})
    for n in calls:
        ranges.at_least(1, MOST_CALLS, calls=n)
    return {n: replace(sampler, steps=n, solver=JUMP) for n in dict.fromkeys(calls or CALLS)}
