"""Ranges of options: what an option may be, said in the ValueError of the first one that is not."""

from math import inf, isfinite
from typing import Any

SEEDS = 2**32
"""Seeds beyond it would repeat those below, of which a random key takes 32 bits."""


def at_least(least: int, options: Any, *names: str) -> None:
    """Counts."""
    for name in names:
        if getattr(options, name) < least:
            raise ValueError(f"{name} = {getattr(options, name)}: at least {least} is needed")


def positive(options: Any, *names: str) -> None:
    """Numbers that are neither 0 nor infinite."""
    for name in names:
        if not 0 < getattr(options, name) < inf:
            raise ValueError(f"{name} = {getattr(options, name)}: a positive, finite number is needed")


def not_negative(options: Any, *names: str) -> None:
    """Finite numbers from 0."""
    for name in names:
        if not 0 <= getattr(options, name) < inf:
            raise ValueError(f"{name} = {getattr(options, name)}: a finite number from 0 is needed")


def finite(options: Any, *names: str) -> None:
    """Neither nan nor infinite."""
    for name in names:
        if not isfinite(getattr(options, name)):
            raise ValueError(f"{name} = {getattr(options, name)}: a finite number is needed")


def shares(options: Any, *names: str) -> None:
    """Numbers in [0, 1]."""
    for name in names:
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"{name} = {getattr(options, name)}: a number in [0, 1] is needed")


def given(options: Any, *names: str) -> None:
    """Options of several values that have one at least; None is another way to leave one out."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value:
            raise ValueError(f"{name} = (): at least one value is needed, or leave out --{name}")


def seed(value: int) -> None:
    """A seed of random keys."""
    if not 0 <= value < SEEDS:
        raise ValueError(f"seed = {value}: a number from 0 to {SEEDS - 1} is needed")
