import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ranges

HUGE = 10**5000
"""More digits than Python prints."""
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            ranges.positive,
            [1, 1e-300, 10**300, np.ones(3)],
            [0, -1, NAN, INF, HUGE, -HUGE, "1", None, np.array([1, 0])],
        ),
        (ranges.not_negative, [0, 1, 10**300, np.zeros(3)], [-1, NAN, INF, HUGE, -HUGE, "1", None]),
        (ranges.finite, [0, -1, 1e300, np.zeros(3)], [NAN, INF, -INF, "1", None, np.array([0, NAN])]),
        (ranges.fraction, [0, 1, 0.5], [-1, 2, NAN, INF, HUGE, "1", None]),
    ],
)
def test_numbers_in_range_pass_and_others_are_named(check, good, bad):
    for value in good:
        check(number=value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^number = .*: must be ") as rejected:
            check(number=value)
        assert len(str(rejected.value)) < 200


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "n = 0: must be at least 1"),
        (-HUGE, "n = an integer of 16610 bits: must be at least 1"),
        (11, "n = 11: must be at most 10"),
        (10**30, "n = 1000000000000000000000000000000: must be at most 10"),
        (HUGE, "n = an integer of 16610 bits: must be at most 10"),
        *((value, "must be an integer") for value in (1.0, NAN, True, "1", None, [1.0], "x" * 10**6)),
    ],
    ids=lambda value: ranges.quoted(value)[:30],
)
def test_counts_are_integers_with_a_limit(value, says):
    with pytest.raises(ValueError, match=re.escape(says)) as rejected:
        ranges.at_least(1, 10, n=value)
    assert len(str(rejected.value)) < 200
    ranges.at_least(1, 10, n=np.int64(10))
    ranges.at_least(1, n=2**31 - 1)
    with pytest.raises(ValueError, match="must be at most 2147483647"):
        ranges.at_least(1, n=2**31)


def test_seeds_have_32_bits():
    ranges.seed(2**32 - 1)
    for value in (-1, 2**32, HUGE, 0.5):
        with pytest.raises(ValueError, match=r"^seed = "):
            ranges.seed(value)


def test_tracers_pass():
    jax.jit(lambda v: [ranges.positive(v=v), ranges.at_least(1, v=v), v][-1])(jnp.array(-1.0))


def test_long_values_are_cut():
    assert ranges.quoted(7) == "7"
    assert ranges.quoted("a") == "'a'"
    assert len(ranges.quoted("a" * 10**6)) == len(ranges.quoted([1] * 10**5)) == ranges.SHOWN
