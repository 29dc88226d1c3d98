"""Clips of two handwritten digits that move along straight lines and are reflected at the edges.

Made on access from any data set of digits, with no files. Clip i is a pure function of i and the digits,
bit-identical on every machine: digits, starts and velocities are drawn by splitmix64, positions are multiples
of 1/8 pixel, and the bilinear interpolation is of integers. Where the digits overlap, the brighter one shows.

The class is the unordered pair of digits. Both are drawn uniformly, so that "3 and 7" is twice as frequent as
"3 and 3".

Source: Moving MNIST, Srivastava, Mansimov and Salakhutdinov, ICML 2015 (arXiv 1502.04681).
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.shapes.scenes import picks

CLIPS = {"train": 20_000, "test": 2_000}
"""Clips in each split."""
FRAMES = 16
SMALL = 14
"""Digits of fewer pixels than this are enlarged twice."""
FINE = 8
"""Positions in a pixel."""
STREAMS = {"train": 32, "test": 33}
"""Of random numbers; raise both if clips change."""


@dataclass(frozen=True)
class Track:
    """The motion of a digit's upper left corner, rows and columns in 1/8 pixels.

    Attributes:
        start: at frame 0.
        velocity: per frame, until it is reflected.
        room: it stays within 0 to `room`.
    """

    start: tuple[int, int]
    velocity: tuple[int, int]
    room: int

    def positions(self, frames: int) -> Int[np.ndarray, "f 2"]:
        """The corner in each frame: the straight line, folded at 0 and `room`."""
        line = np.array(self.start) + np.arange(frames)[:, None] * np.array(self.velocity)
        folded = line % (2 * self.room)
        return np.minimum(folded, 2 * self.room - folded)


@dataclass(frozen=True, eq=False)
class MovingDigits:
    """Random access to {"image": uint8 (frames, side, side, c), "label": number of the pair}.

    Attributes:
        digits: images (s, s, c) with classes; those of fewer than 14 pixels are enlarged twice.
        split: `train` or `test`, which fixes what is drawn.
        frames: of a clip.
    """

    digits: Dataset
    split: str
    frames: int = FRAMES
    _known: dict[int, tuple[np.ndarray, int]] = field(default_factory=dict, repr=False)
    """Digits that were decoded, at their final size, and their classes."""

    @property
    def side(self) -> int:
        """Of a clip in pixels: the smallest power of two that is at least twice a digit's."""
        return 2 ** (2 * self._digit - 1).bit_length()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the pairs, such as "3 and 7", the lower class first."""
        return tuple(" and ".join(pair) for pair in itertools.combinations_with_replacement(self._classes, 2))

    def __len__(self) -> int:
        return CLIPS[self.split]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        drawn = [self.drawn(index) for index in indices]
        self._decode({position for pair, _ in drawn for position in pair})
        return [self._clip([self._known[i] for i in pair], tracks) for pair, tracks in drawn]

    def drawn(self, index: int) -> tuple[tuple[int, int], tuple[Track, Track]]:
        """The positions in `digits` of the two digits of a clip, and their motions."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}: must be from 0 to {len(self) - 1}")
        pick = picks(STREAMS[self.split], index)
        first, second = pick(len(self.digits)), pick(len(self.digits))
        return (first, second), (self._track(pick), self._track(pick))

    @property
    def _classes(self) -> tuple[str, ...]:
        assert isinstance(self.digits.codec, Classes)
        return self.digits.codec.names

    @property
    def _digit(self) -> int:
        size = self.digits.image_shape[0]
        return 2 * size if size < SMALL else size

    @cached_property
    def _velocities(self) -> list[tuple[int, int]]:
        """Of all directions; a digit crosses the clip in 16 to 32 frames."""
        least, most = FINE * self.side // 32, FINE * self.side // 16
        steps = range(-most, most + 1)
        return [(y, x) for y in steps for x in steps if least**2 <= y**2 + x**2 <= most**2]

    def _track(self, pick: Any) -> Track:
        room = FINE * (self.side - self._digit)
        start = pick(room + 1), pick(room + 1)
        return Track(start, self._velocities[pick(len(self._velocities))], room)

    def _decode(self, positions: set[int]) -> None:
        new = sorted(positions - self._known.keys())
        for position, example in zip(new, self.digits.examples(new), strict=True):
            image = example["image"]
            large = enlarged(image) if len(image) < SMALL else image
            self._known[position] = large, int(example["label"])

    def _clip(self, digits: Sequence[tuple[np.ndarray, int]], tracks: Sequence[Track]) -> dict[str, Any]:
        layers = [
            drawn(image, track.positions(self.frames), self.side)
            for (image, _), track in zip(digits, tracks, strict=True)
        ]
        low, high = sorted(label for _, label in digits)
        number = low * (2 * len(self._classes) - low - 1) // 2 + high
        return {"image": np.maximum(*layers), "label": number}


def open_moving_digits(digits: Dataset, split: str, frames: int = FRAMES) -> Dataset:
    """Clips of two digits, 20,000 of `train` or 2,000 of `test`.

    Those of digits of 8 x 8 pixels are of 32 x 32, of 28 x 28 they are of 64 x 64.

    Args:
        digits: square images with classes, of the same split.
        split: `train` or `test`.
        frames: of a clip.

    Raises:
        ValueError: the split is unknown, or the digits are not such a data set.
    """
    if split not in CLIPS:
        raise ValueError(
            f"split {split!r} of data set 'moving_digits': must be train or test, without slices"
        )
    if frames < 1:
        raise ValueError(f"frames = {frames}: must be at least 1")
    square = len(digits.image_shape) == 3 and digits.image_shape[0] == digits.image_shape[1]
    if not square or not isinstance(digits.codec, Classes):
        raise ValueError(
            f"digits are {digits.image_shape} with {type(digits.codec).__name__}: expected square images with"
            " Classes"
        )
    source = MovingDigits(digits, split, frames)
    shape = (frames, source.side, source.side, digits.image_shape[-1])
    identity = f"{digits.fingerprint} {split} {STREAMS[split]} {len(source)} {shape}"
    return Dataset(
        source, shape, Classes(source.names), identity=hashlib.sha256(identity.encode()).hexdigest()
    )


def enlarged(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "2*h 2*w c"]:
    """Twice as large, bilinearly; in integers."""
    wide = np.pad(image.astype(np.int32), ((1, 1), (1, 1), (0, 0)), "edge")
    for _ in range(2):  # rows, then columns
        here, before, after = 3 * wide[1:-1], wide[:-2], wide[2:]
        wide = np.stack([here + before, here + after], axis=1).reshape(-1, *wide.shape[1:]).swapaxes(0, 1)
    return ((wide + 8) // 16).astype(np.uint8)


def drawn(
    image: UInt8[np.ndarray, "s s c"], corners: Int[np.ndarray, "f 2"], side: int
) -> UInt8[np.ndarray, "f side side c"]:
    """An image on black with its upper left corner at `corners` / 8 pixels, interpolated bilinearly."""
    grid = FINE * np.arange(side)[:, None] - FINE * np.arange(len(image))
    # Integers below 2**24 throughout, which float32 adds and multiplies exactly, in any order.
    rows, columns = (
        np.maximum(FINE - abs(grid - at[:, None, None]), 0).astype(np.float32) for at in corners.T
    )
    layers = rows[:, None] @ image.astype(np.float32).transpose(2, 0, 1) @ columns[:, None].swapaxes(2, 3)
    return ((layers.astype(np.int32) + FINE**2 // 2) // FINE**2).astype(np.uint8).transpose(0, 2, 3, 1)
