"""Scenes of coloured shapes on a plain background, generated from an index.

A scene has one or two objects. `scene(index, split)` is a pure function of integers with its own random
generator, so that it is bit-identical on every machine and with every version of NumPy; `draw` renders the
image of 32 x 32 pixels.

Some combinations of colour and shape are held out from training, where each colour and each shape occurs.

Source: the generator is splitmix64, Steele, Lea and Flood, OOPSLA 2014.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

SIDE = 32
"""Height and width of the image in pixels."""

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (224, 32, 32),
    "green": (32, 160, 48),
    "blue": (40, 72, 224),
    "yellow": (248, 216, 32),
    "purple": (168, 48, 200),
    "cyan": (48, 208, 224),
}
BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "gray": (128, 128, 128)}
SIZES = {"small": (13, 16), "large": (22, 26)}
"""Smallest and largest radius, in quarter pixels."""

HELD_OUT = (("green", "circle"), ("yellow", "square"), ("blue", "triangle"), ("red", "cross"))
"""Combinations of colour and shape that occur in no scene of `train` or `test`."""
SPLITS = ("train", "test", "held_out")

_PAIRS = tuple(itertools.product(COLOURS, SHAPES))
_INSIDE: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "circle": lambda y, x, r: y**2 + x**2 <= r**2,
    "square": lambda y, x, r: (8 * abs(y) <= 7 * r) & (8 * abs(x) <= 7 * r),
    "triangle": lambda y, x, r: (14 * abs(x) <= 8 * y + 7 * r) & (8 * y <= 7 * r),
    "cross": lambda y, x, r: (8 * abs(y) <= 3 * r) & (abs(x) <= r) | (abs(y) <= r) & (8 * abs(x) <= 3 * r),
}
"""Whether points at rows y (n, 1) and columns x (1, n) from the centre are inside the shape of radius r."""
_POINTS = 8 * np.arange(4 * SIDE) + 4
"""Rows or columns of the points at which shapes are sampled, in 1/32 pixels."""
_BORDER, _GAP = 4, 12
"""Smallest distances from the edge and between two objects, in quarter pixels."""
_VERSION = 1
"""Seeds all scenes: raise it only together with the version of `builder.Shapes`."""
CAPTION_STREAM, _TEST_STREAM = len(SPLITS), len(SPLITS) + 1
_64_BITS = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
Pick = Callable[[int], int]
"""n -> a random integer from 0 to n - 1."""


@dataclass(frozen=True)
class Object:
    """An object: a shape of one colour.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        size: `small` or `large`.
        centre: row and column of the centre of its bounding box, in pixels from the upper left corner.
        radius: half the side of its bounding box in pixels, a multiple of 1/4.
    """

    shape: str
    colour: str
    size: str
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Scene:
    """One or two objects, the left or upper one first, on a background, one of `BACKGROUNDS`."""

    objects: tuple[Object, ...]
    background: str


def scene(index: int, split: str = "train") -> Scene:
    """Scene `index` of a split; `train` and `test` have the same distribution and no scene in common.

    Four in ten have one object. Two objects are at least 3 pixels apart along the axis of their relation, and
    all stay 1 pixel away from the edge. In `held_out` each scene has an object with one of the combinations
    `HELD_OUT`; in the other splits none has.

    Args:
        index: 0 to 2**63 - 1.
        split: `train`, `test` or `held_out`.

    Raises:
        ValueError: the index is out of range, or the split unknown.

    >>> scene(7) == scene(7), held_out(scene(7)), held_out(scene(7, "held_out"))
    (True, False, True)
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: must be one of {', '.join(SPLITS)}")
    pick = picks(SPLITS.index(split), index)
    drawn = (_scene(pick, split) for _ in itertools.count())
    # A hash assigns each possible scene to one split, one in 16 to `test`: no test image is in training.
    return next(s for s in drawn if split == "held_out" or _is_test(s) == (split == "test"))


def held_out(scene: Scene) -> bool:
    """Whether it has an object with a combination of colour and shape that is held out from training."""
    return any((o.colour, o.shape) in HELD_OUT for o in scene.objects)


def relation(first: Object, second: Object) -> str | None:
    """Where `first` is, relative to `second`: left, right, up or down; None if no direction dominates."""
    return _direction(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1])


def place(only: Object) -> str | None:
    """Where an object is in the image: middle, left, right, up or down; None if no direction dominates."""
    rows, columns = (x - SIDE / 2 for x in only.centre)
    return "middle" if max(abs(rows), abs(columns)) < 4 else _direction(rows, columns)


def draw(scene: Scene) -> UInt8[np.ndarray, "32 32 3"]:
    """The image of a scene, antialiased by 4 x 4 points per pixel, in integer arithmetic throughout."""
    image = np.broadcast_to(np.array(BACKGROUNDS[scene.background]), (SIDE, SIDE, 3))
    for o in scene.objects:
        inside = coverage(o.shape, o.centre, o.radius)[:, :, None]
        image = (image * (16 - inside) + np.array(COLOURS[o.colour]) * inside + 8) // 16
    return image.astype(np.uint8)


def coverage(shape: str, centre: tuple[float, float], radius: float) -> Int[np.ndarray, "32 32"]:
    """How many of the 4 x 4 points of each pixel are inside a shape; lengths are rounded to 1/32 pixel.

    In units of the radius the square is 7/4 wide, the triangle 2 wide and 7/4 high (equilateral to
    1 %), and the arms of the cross are 2 long and 3/4 wide.
    """
    r = round(32 * radius)
    rows, columns = (round(32 * c) for c in centre)
    tops, lefts = (slice(max((c - r) // 32, 0), max((c + r) // 32 + 1, 0)) for c in (rows, columns))
    y = _POINTS[4 * tops.start : 4 * tops.stop] - rows
    x = _POINTS[4 * lefts.start : 4 * lefts.stop] - columns
    inside = _INSIDE[shape](y[:, None], x[None, :], r)
    height, width = y.size // 4, x.size // 4
    in_rows = inside.reshape(height, 4, x.size).sum(axis=1, dtype=np.uint8)  # six times faster than one sum
    covered = np.zeros((SIDE, SIDE), np.int64)
    covered[tops, lefts] = in_rows.reshape(height, width, 4).sum(axis=2)
    return covered


def _direction(rows: float, columns: float) -> str | None:
    """The dominant direction: 1.25 times the other component; in scenes it is at least 1.5 times that."""
    small, great = sorted((abs(rows), abs(columns)))
    if great <= 1.25 * small:
        return None
    if abs(columns) == great:
        return "left" if columns < 0 else "right"
    return "up" if rows < 0 else "down"


def _scene(pick: Pick, split: str) -> Scene:
    pairs = _pick_pairs(pick, split, 1 if pick(10) < 4 else 2)
    sizes = [tuple(SIZES)[pick(len(SIZES))] for _ in pairs]
    radii = [least + pick(greatest - least + 1) for least, greatest in (SIZES[size] for size in sizes)]
    centres = _pick_one_centre(pick, *radii) if len(pairs) == 1 else _pick_two_centres(pick, *radii)
    objects = tuple(
        Object(shape, colour, size, (row / 4, column / 4), radius / 4)
        for (colour, shape), size, (row, column), radius in zip(pairs, sizes, centres, radii, strict=True)
    )
    return Scene(objects, tuple(BACKGROUNDS)[pick(len(BACKGROUNDS))])


def _pick_pairs(pick: Pick, split: str, count: int) -> list[tuple[str, str]]:
    """Colour and shape of the objects; two objects differ in at least one of them."""
    first_from = HELD_OUT if split == "held_out" else [p for p in _PAIRS if p not in HELD_OUT]
    first = first_from[pick(len(first_from))]
    if count == 1:
        return [first]
    second_from = [p for p in (_PAIRS if split == "held_out" else first_from) if p != first]
    pairs = [first, second_from[pick(len(second_from))]]
    return pairs[::-1] if pick(2) else pairs


def _pick_one_centre(pick: Pick, radius: int) -> list[tuple[int, int]]:
    """Within 2 pixels of the middle, or at least 6 away from it in one of four directions."""
    where, middle = pick(5), 2 * SIDE
    if where == 4:
        return [(middle + pick(17) - 8, middle + pick(17) - 8)]
    along = 24 + pick(middle - _BORDER - radius - 24 + 1)
    across = middle + pick_between(pick, -(2 * along // 3), 2 * along // 3)
    along = middle + (along if where % 2 else -along)
    return [(along, across) if where < 2 else (across, along)]


def _pick_two_centres(pick: Pick, first: int, second: int) -> list[tuple[int, int]]:
    """The first left of the second or above it, with an offset across of at most 2/3 of that along."""
    side = 4 * SIDE
    slack = side - 2 * (_BORDER + first + second) - _GAP
    before, after = sorted((pick(slack + 1), pick(slack + 1)))
    start = _BORDER + first + before
    along = first + second + _GAP + after - before
    reach = 2 * along // 3
    across = pick_between(pick, _BORDER + first, side - _BORDER - first)
    low, high = max(_BORDER + second, across - reach), min(side - _BORDER - second, across + reach)
    other = pick_between(pick, low, high)
    centres = [(across, start), (other, start + along)]
    return centres if pick(2) else [(along, across) for across, along in centres]


def pick_between(pick: Pick, low: int, high: int) -> int:
    """A random integer from `low` to `high`, both included."""
    return low + pick(high - low + 1)


def _is_test(scene: Scene) -> bool:
    numbers = [list(BACKGROUNDS).index(scene.background)]
    for o in scene.objects:
        lengths = (round(4 * length) for length in (*o.centre, o.radius))
        numbers += [SHAPES.index(o.shape), list(COLOURS).index(o.colour), *lengths]
    return digest(_TEST_STREAM, *numbers) % 16 == 0


def picks(stream: int, index: int) -> Pick:
    """The random numbers of an index: splitmix64, seeded by a hash of stream and index."""
    if not 0 <= index < 2**63:
        raise ValueError(f"index = {index}: must be from 0 to 2**63 - 1")
    state = digest(stream, index)
    numbers = (_mix(state + k * _GOLDEN & _64_BITS) for k in itertools.count(1))
    return lambda n: next(numbers) * n >> 64


def digest(*numbers: int) -> int:
    """A hash of 64 bits of integers below 2**64."""
    state = _VERSION
    for number in numbers:
        state = _mix((state + _GOLDEN & _64_BITS) ^ number)
    return state


def _mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _64_BITS
    return z ^ z >> 31
