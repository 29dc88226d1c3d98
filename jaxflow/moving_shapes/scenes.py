"""Clips of moving shapes on a plain background, generated from an index.

A scene has one or two objects, each with one motion: it stands, moves straight, bounces off an edge, circles,
grows or shrinks. Two objects are apart in every frame, or one passes in front of the other or behind it.
`scene(index, split)` is a pure function of integers, with the generator of `jaxflow.shapes.scenes`; `draw`
renders 16 frames of 32 x 32 pixels. The centre and radius of each object in each frame are data of the scene.

Some combinations of a motion with a shape or a colour are held out from training, where each motion, each
shape and each colour occurs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxflow.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIDE,
    SIZES,
    SPLITS,
    Pick,
    coverage,
    digest,
    pick_between,
    picks,
)

FRAMES = 16
"""Frames of a clip."""
MOTIONS = ("stands", "moves", "bounces", "circles", "grows", "shrinks")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Steps in rows and columns."""
TURNS = {"clockwise": 1, "anticlockwise": -1}
"""Signs of the angle from the columns to the rows, as seen."""
SPEEDS = {"slow": (12, 16), "fast": (32, 36)}
"""Lowest and highest speed of what moves or bounces, in 1/32 pixels per frame."""
TURNING = {"slow": (10, 12), "fast": (20, 24)}
"""Lowest and highest speed of what circles, in 1/240 turns per frame."""
PASSING = (44, 46)
"""Speed of what passes another object: fast, in 1/32 pixels per frame."""

HELD_OUT = (
    ("moves", "triangle"),
    ("bounces", "cross"),
    ("circles", "square"),
    ("grows", "circle"),
    ("moves", "cyan"),
    ("bounces", "red"),
    ("circles", "yellow"),
    ("shrinks", "green"),
)
"""Combinations of a motion with a shape or a colour that occur in no scene of `train` or `test`."""

_PIXEL = 32
"""Lengths are integers in units of 1/32 pixel."""
_EDGE = SIDE * _PIXEL
_BORDER, _GAP = 1 * _PIXEL, 3 * _PIXEL
"""Smallest distances from the edge, unless it bounces off, and between two objects that stay apart."""
_CLEAR = 24
"""Smallest distance of an object from the one it passes, in the first two frames and in the last two."""
_AHEAD = (4, 11)
"""Frames after which an object bounces, at least and at most."""
_ORBITS = {1: (4 * _PIXEL, 8 * _PIXEL), 2: (3 * _PIXEL, 4 * _PIXEL)}
"""Smallest and largest radius of the path of what circles, in a scene of one or two objects."""
_TURN = 240
_COSINES = tuple(round(4096 * float(np.cos(2 * np.pi * k / _TURN))) for k in range(_TURN))
_KINDS = tuple(itertools.product(MOTIONS, COLOURS, SHAPES))
_HELD_OUT_KINDS = tuple((m, c, s) for m, c, s in _KINDS if (m, c) in HELD_OUT or (m, s) in HELD_OUT)
_OTHER_KINDS = tuple(kind for kind in _KINDS if kind not in _HELD_OUT_KINDS)
_FIRST_STREAM = 100
"""Seeds all scenes: raise it only together with the version of `builder.MovingShapes`."""
CAPTION_STREAM, _TEST_STREAM = _FIRST_STREAM + len(SPLITS), _FIRST_STREAM + len(SPLITS) + 1
Kind = tuple[str, str, str]
"""Motion, colour and shape."""


@dataclass(frozen=True)
class MovingObject:
    """A shape of one colour, and its path.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        size: `small` or `large`; None if it grows or shrinks.
        motion: one of `MOTIONS`.
        direction: where it moves, or bounces off the edge, one of `DIRECTIONS`; how it circles, one of
            `TURNS`; otherwise None.
        speed: `slow` or `fast`, for what moves, bounces or circles; otherwise None.
        centres: row and column of the centre of its bounding box in each frame, in pixels from the upper left
            corner, multiples of 1/32.
        radii: half the side of its bounding box in each frame, in pixels, multiples of 1/32.
    """

    shape: str
    colour: str
    size: str | None
    motion: str
    direction: str | None
    speed: str | None
    centres: tuple[tuple[float, float], ...]
    radii: tuple[float, ...]


@dataclass(frozen=True)
class MovingScene:
    """One or two objects on a background, one of `BACKGROUNDS`.

    `front` is the index of the object that is in front when they overlap; None if they never do.
    """

    objects: tuple[MovingObject, ...]
    background: str
    front: int | None


class _Path(NamedTuple):
    """Where an object is, relative to its place in the image, and its radius, in units of 1/32 pixel.

    `edge`: the direction in which it bounces off the edge, after `turn` units; None for the others.
    """

    size: str | None
    direction: str | None
    speed: str | None
    offsets: list[tuple[int, int]]
    radii: list[int]
    edge: str | None = None
    turn: int = 0


def scene(index: int, split: str = "train") -> MovingScene:
    """Scene `index` of a split; `train` and `test` have the same distribution and no scene in common.

    Of 20 scenes 8 have one object and 7 two that stay apart; in 5 a small object moves past another that
    stands, of a different colour, and they are apart in the first two frames and in the last two. Motions are
    equally probable. In `held_out` each scene has an object with one of the combinations `HELD_OUT`; in the
    other splits none has.

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
    pick = picks(_FIRST_STREAM + SPLITS.index(split), index)
    drawn = (_scene(pick, split == "held_out") for _ in itertools.count())
    # A hash assigns each possible scene to one split, one in 16 to `test`: no test clip is in training.
    return next(s for s in drawn if split == "held_out" or _is_test(s) == (split == "test"))


def held_out(scene: MovingScene) -> bool:
    """Whether it has an object with a combination of motion and shape or colour that is held out."""
    return any((o.motion, o.colour, o.shape) in _HELD_OUT_KINDS for o in scene.objects)


def draw(scene: MovingScene) -> UInt8[np.ndarray, "16 32 32 3"]:
    """The clip of a scene, antialiased by 4 x 4 points per pixel, in integer arithmetic throughout."""
    ground = np.array(BACKGROUNDS[scene.background], np.uint16)
    clip: np.ndarray = np.broadcast_to(ground, (FRAMES, SIDE, SIDE, 3))
    for o in scene.objects if scene.front != 0 else scene.objects[::-1]:
        frames = list(zip(o.centres, o.radii, strict=True))
        covered = {frame: coverage(o.shape, *frame) for frame in set(frames)}
        inside = np.stack([covered[frame] for frame in frames]).astype(np.uint16)[..., None]
        clip = (clip * (16 - inside) + np.array(COLOURS[o.colour], np.uint16) * inside + 8) >> 4
    return clip.astype(np.uint8)


def _scene(pick: Pick, held: bool) -> MovingScene:
    arrangement = pick(20)
    background = tuple(BACKGROUNDS)[pick(len(BACKGROUNDS))]
    if arrangement >= 15:
        return MovingScene(_passing(pick, *_pick_passing_kinds(pick, held)), background, pick(2))
    kinds = _pick_kinds(pick, held, 1 if arrangement < 8 else 2)
    placed = (
        _place(pick, [_pick_path(pick, kind[0], len(kinds)) for kind in kinds]) for _ in itertools.count()
    )
    paths, places = next(found for found in placed if found)
    objects = tuple(_object(*both) for both in zip(kinds, paths, places, strict=True))
    return MovingScene(objects, background, None)


def _pick_kinds(pick: Pick, held: bool, count: int) -> list[Kind]:
    """Two objects differ in colour or shape."""
    first = _pick_kind(pick, _HELD_OUT_KINDS if held else _OTHER_KINDS)
    if count == 1:
        return [first]
    second = _pick_kind(pick, [kind for kind in (_KINDS if held else _OTHER_KINDS) if kind[1:] != first[1:]])
    return [second, first] if pick(2) else [first, second]


def _pick_passing_kinds(pick: Pick, held: bool) -> tuple[Kind, Kind]:
    """First the one that moves."""
    first_from = _HELD_OUT_KINDS if held else _OTHER_KINDS
    first = _pick_kind(pick, [kind for kind in first_from if kind[0] == "moves"])
    return first, _pick_kind(pick, [kind for kind in _KINDS if kind[0] == "stands" and kind[1] != first[1]])


def _pick_kind(pick: Pick, kinds: Sequence[Kind]) -> Kind:
    """All motions of these kinds are equally probable."""
    motions = tuple(dict.fromkeys(kind[0] for kind in kinds))
    motion = motions[pick(len(motions))]
    kinds = [kind for kind in kinds if kind[0] == motion]
    return kinds[pick(len(kinds))]


def _pick_path(pick: Pick, motion: str, objects: int) -> _Path:
    if motion in ("grows", "shrinks"):
        first, last = (_pick_radius(pick, size) for size in SIZES)
        radii = [((FRAMES - 1 - k) * first + k * last) // (FRAMES - 1) for k in range(FRAMES)]
        radii = radii if motion == "grows" else radii[::-1]
        return _Path(None, None, None, [(0, 0)] * FRAMES, radii)
    size = tuple(SIZES)[pick(len(SIZES))]
    radii = [_pick_radius(pick, size)] * FRAMES
    if motion == "stands":
        return _Path(size, None, None, [(0, 0)] * FRAMES, radii)
    speed = tuple(SPEEDS)[pick(len(SPEEDS))]
    if motion == "circles":
        direction = tuple(TURNS)[pick(len(TURNS))]
        step = TURNS[direction] * pick_between(pick, *TURNING[speed])
        orbit, start = pick_between(pick, *_ORBITS[objects]), pick(_TURN)
        angles = [start + k * step for k in range(FRAMES)]
        return _Path(size, direction, speed, [_polar(orbit, angle) for angle in angles], radii)
    direction = tuple(DIRECTIONS)[pick(len(DIRECTIONS))]
    step = pick_between(pick, *SPEEDS[speed])
    if motion == "moves":
        return _Path(size, direction, speed, _straight(direction, range(0, FRAMES * step, step)), radii)
    turn = pick_between(pick, _AHEAD[0] * step, _AHEAD[1] * step)
    ahead = [min(k * step, 2 * turn - k * step) for k in range(FRAMES)]
    return _Path(size, direction, speed, _straight(direction, ahead), radii, direction, turn)


def _pick_radius(pick: Pick, size: str) -> int:
    return pick_between(pick, *SIZES[size]) * _PIXEL // 4


def _straight(direction: str, ahead: list[int] | range) -> list[tuple[int, int]]:
    row, column = DIRECTIONS[direction]
    return [(row * a, column * a) for a in ahead]


def _polar(orbit: int, angle: int) -> tuple[int, int]:
    """The rows, downwards, are a quarter of a turn ahead of the columns."""
    row, column = (_COSINES[a % _TURN] for a in (angle - _TURN // 4, angle))
    return (orbit * row + 2048) // 4096, (orbit * column + 2048) // 4096


def _place(pick: Pick, paths: list[_Path]) -> tuple[list[_Path], list[tuple[int, int]]] | None:
    """The paths with their places, each apart from the other along one axis; None if they do not fit."""
    ranges = [[_range(path, axis) for path in paths] for axis in (0, 1)]
    if len(paths) == 2:
        axis = pick(2)
        (low, high), (other_low, other_high) = ranges[axis]
        apart = _reach(paths[0], axis)[1] + _GAP + _reach(paths[1], axis)[0]
        high = min(high, other_high - apart)
        if low > high:
            return None
        first = pick_between(pick, low, high)
        ranges[axis] = [(first, first), (max(other_low, first + apart), other_high)]
    rows, columns = ([pick_between(pick, *limits) for limits in both] for both in ranges)
    return paths, list(zip(rows, columns, strict=True))


def _reach(path: _Path, axis: int) -> tuple[int, int]:
    """How far it reaches from its place in both directions of an axis."""
    along = DIRECTIONS[path.edge][axis] * path.turn if path.edge else 0
    ends = [(o[axis] - r, o[axis] + r) for o, r in zip(path.offsets, path.radii, strict=True)]
    lows, highs = zip(*ends, (along - path.radii[0], along + path.radii[0]), strict=True)
    return -min(lows), max(highs)


def _range(path: _Path, axis: int) -> tuple[int, int]:
    """The first and the last place at which it stays off the edge, or at which it bounces off it."""
    before, after = _reach(path, axis)
    step = DIRECTIONS[path.edge][axis] if path.edge else 0
    if step:
        return (before, before) if step < 0 else (_EDGE - after, _EDGE - after)
    return _BORDER + before, _EDGE - _BORDER - after


def _passing(pick: Pick, moving: Kind, standing: Kind) -> tuple[MovingObject, MovingObject]:
    """A small object moves past another, whose centre is at most 2 pixels beside its path."""
    radius, other = (_pick_radius(pick, "small") for _ in range(2))
    direction, step = tuple(DIRECTIONS)[pick(len(DIRECTIONS))], pick_between(pick, *PASSING)
    clear = radius + other + _CLEAR
    low, high = _BORDER + radius, _EDGE - _BORDER - radius
    start = pick_between(pick, low, high - (FRAMES - 1) * step)
    along = pick_between(pick, start + step + clear, start + (FRAMES - 2) * step - clear)
    beside = pick_between(pick, low, high)
    least, most = _BORDER + other, _EDGE - _BORDER - other
    across = pick_between(pick, max(least, beside - 2 * _PIXEL), min(most, beside + 2 * _PIXEL))
    path = _Path(
        "small", direction, "fast", _straight(direction, range(0, FRAMES * step, step)), [radius] * FRAMES
    )
    still = _Path("small", None, None, [(0, 0)] * FRAMES, [other] * FRAMES)
    if sum(DIRECTIONS[direction]) < 0:
        start, along = _EDGE - start, _EDGE - along
    places = [(beside, start), (across, along)]
    if direction in ("up", "down"):
        places = [place[::-1] for place in places]
    return _object(moving, path, places[0]), _object(standing, still, places[1])


def _object(kind: Kind, path: _Path, place: tuple[int, int]) -> MovingObject:
    motion, colour, shape = kind
    centres = tuple(((place[0] + row) / _PIXEL, (place[1] + column) / _PIXEL) for row, column in path.offsets)
    radii = tuple(r / _PIXEL for r in path.radii)
    return MovingObject(shape, colour, path.size, motion, path.direction, path.speed, centres, radii)


def _is_test(scene: MovingScene) -> bool:
    numbers = [list(BACKGROUNDS).index(scene.background), 2 if scene.front is None else scene.front]
    for o in scene.objects:
        ends = itertools.chain(*((*o.centres[k], o.radii[k]) for k in (0, 1, -1)))
        lengths = (round(_PIXEL * length) for length in ends)
        numbers += [SHAPES.index(o.shape), list(COLOURS).index(o.colour), *lengths]
    return digest(_TEST_STREAM, *numbers) % 16 == 0
