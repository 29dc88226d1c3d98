"""Times of calls that alternate, so that a machine that slows down slows all of them."""

import time
from collections.abc import Callable

import numpy as np

Times = tuple[float, float]
"""Least and median milliseconds."""


def in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Times of alternating calls, after two warm-up calls of each."""
    seconds: dict[str, list[float]] = {who: [] for who in calls}
    for repeat in range(repeats + 2):
        for who, call in calls.items():
            time.sleep(0.05)  # PyTorch's threads spin for a moment before they sleep
            begin = time.perf_counter()
            call()
            if repeat > 1:
                seconds[who].append(time.perf_counter() - begin)
    return {who: (1e3 * min(taken), 1e3 * float(np.median(taken))) for who, taken in seconds.items()}
