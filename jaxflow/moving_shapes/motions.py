"""Motions of an object, read from its path: the model with the least mean square distance.

Objects move straight, bounce off an edge, or circle. Where no model fits, the caller calls it `unknown`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxflow.moving_shapes.scenes import DIRECTIONS, TURNS
from jaxflow.shapes.reader import UNKNOWN
from jaxflow.shapes.scenes import SIDE

STRAY = 0.5
"""Largest root mean square distance of a path from a model of its motion, in pixels."""
STILL = 0.12
"""Largest speed of what stands, in pixels per frame."""
SPEED_LIMITS = {"slow": (0.2, 0.7), "fast": (0.7, 2.0)}
"""Speeds in pixels per frame; the world's are 0.375 to 0.5 and 1 to 1.44."""
TURNING_LIMITS = {"slow": (8.0, 23.0), "fast": (23.0, 60.0)}
"""Speeds of what circles, in degrees per frame; the world's are 15 to 18 and 30 to 36."""
ALIGNED = 0.93
"""Smallest cosine of the angle to the direction in which something moves."""
TURNED = 1.0
"""Smallest distance before and after a bounce, in pixels."""
SMALLEST_ORBIT = 1.5
"""Radius of the path of what circles, in pixels; the world's are 3 to 8."""


class Fit(NamedTuple):
    """A motion, and the root mean square distance in pixels of a path from it."""

    distance: float
    motion: str
    direction: str | None
    speed: str | None


def between(limits: dict[str, tuple[float, float]], value: float) -> str:
    """The name of the range in which a value is, or `UNKNOWN`."""
    return next((name for name, (least, most) in limits.items() if least <= value < most), UNKNOWN)


def line(times: Int[np.ndarray, "m"], values: Float[np.ndarray, "m"]) -> tuple[float, float, float]:
    """The line of least squares: its slope, its value at 0, and the root mean square difference."""
    middle, mean = times.mean(), values.mean()
    spread = float(((times - middle) ** 2).sum())
    slope = float((times - middle) @ values) / spread if spread else 0.0
    rest = values - mean - slope * (times - middle)
    return slope, float(mean - slope * middle), float(np.sqrt(np.mean(rest**2)))


def motions(times: Int[np.ndarray, "m"], centres: Float[np.ndarray, "m 2"], radius: float) -> Iterator[Fit]:
    """The models of the path of an object that keeps its size."""
    if len(times) < 2:
        return
    straight = _straight(times, centres)
    yield straight
    if len(times) > 4 and straight.distance > STRAY / 3:
        yield from _bouncing(times, centres, radius)
        yield from _circling(times, centres)


def _straight(times: Int[np.ndarray, "m"], centres: Float[np.ndarray, "m 2"]) -> Fit:
    (row, _, above), (column, _, beside) = (line(times, centres[:, axis]) for axis in (0, 1))
    distance, speed = float(np.hypot(above, beside)), float(np.hypot(row, column))
    if speed <= STILL:
        return Fit(distance, "stands", None, None)
    direction = next(
        (d for d, (y, x) in DIRECTIONS.items() if row * y + column * x >= ALIGNED * speed), UNKNOWN
    )
    known = between(SPEED_LIMITS, speed)
    return Fit(distance, "moves" if known != UNKNOWN else UNKNOWN, direction, known)


def _bouncing(times: Int[np.ndarray, "m"], centres: Float[np.ndarray, "m 2"], radius: float) -> Iterator[Fit]:
    """Back and forth along one axis: the line between the edges' mirror images that fits best."""
    axis = int(np.argmax(np.ptp(centres, axis=0)))
    x, beside = centres[:, axis], float(centres[:, 1 - axis].std())
    speeds = np.linspace(SPEED_LIMITS["slow"][0], SPEED_LIMITS["fast"][1], 91)
    speeds = np.concatenate([speeds, -speeds])[:, None, None]
    elapsed = times - times[0]
    for short in (0.0, 1.0, -1.0):  # of the edge
        low, length = radius + short, SIDE - 2 * (radius + short)
        if length <= 0:
            continue
        starts = np.clip(x[0] + np.linspace(-0.5, 0.5, 5)[:, None], low, low + length)
        unfolded = starts + speeds * elapsed - low
        folded = length - abs(unfolded % (2 * length) - length)
        best = ((folded - (x - low)) ** 2).sum(-1).argmin()
        images = np.floor(unfolded.reshape(-1, len(times))[best] / length)
        seen = (images + images % 2) * length + (1 - 2 * (images % 2)) * (x - low)
        speed, start, distance = line(elapsed, seen)
        direction = ("up", "down") if axis == 0 else ("left", "right")
        before = start if speed < 0 else length - start
        after = abs(speed) * elapsed[-1] - before
        if min(before, after) >= TURNED:
            total = float(np.hypot(distance, beside))
            known = between(SPEED_LIMITS, abs(speed))
            yield Fit(total, "bounces" if known != UNKNOWN else UNKNOWN, direction[int(speed > 0)], known)


def _circling(times: Int[np.ndarray, "m"], centres: Float[np.ndarray, "m 2"]) -> Iterator[Fit]:
    """At constant speed on the circle of least squares (Kasa, IEEE Trans. Instrum. Meas. 25, 1976)."""
    design = np.column_stack([2 * centres, np.ones(len(centres))])
    (row, column, rest), *_ = np.linalg.lstsq(design, (centres**2).sum(1), rcond=None)
    orbit = float(np.sqrt(max(rest + row**2 + column**2, 0.0)))
    angles = np.unwrap(np.arctan2(centres[:, 0] - row, centres[:, 1] - column))
    rate, start, _ = line(times, angles)
    if not SMALLEST_ORBIT <= orbit <= SIDE / 2 or abs(rate) * (times[-1] - times[0]) < np.pi:
        return
    angles = start + rate * times
    model = np.stack([row + orbit * np.sin(angles), column + orbit * np.cos(angles)], axis=1)
    distance = float(np.sqrt(((centres - model) ** 2).sum(1).mean()))
    direction = next(turn for turn, sign in TURNS.items() if sign * rate > 0)
    known = between(TURNING_LIMITS, float(np.degrees(abs(rate))))
    yield Fit(distance, "circles" if known != UNKNOWN else UNKNOWN, direction, known)
