"""Clips on a page: as strips of their frames, or side by side as one larger clip."""

import numpy as np
from jaxtyping import UInt8

GAP = 2
"""Pixels between two frames, white."""


def film_strip(clips: UInt8[np.ndarray, "n f h w c"], every: int = 1) -> UInt8[np.ndarray, "H W c"]:
    """A picture with a row for each clip, whose frames 0, `every`, 2 `every`, ... are side by side.

    Args:
        clips: to show, one below the other.
        every: 1 to show all frames.

    >>> film_strip(np.zeros((2, 5, 8, 8, 3), np.uint8), every=2).shape
    (18, 28, 3)
    """
    return _tiled(clips[:, ::every])


def mosaic(clips: UInt8[np.ndarray, "n f h w c"], columns: int) -> UInt8[np.ndarray, "f H W c"]:
    """One clip with all of them, in rows of `columns`; places left over are white.

    >>> mosaic(np.zeros((3, 5, 8, 8, 1), np.uint8), columns=2).shape
    (5, 18, 18, 1)
    """
    rows = -(-len(clips) // columns)
    missing = np.full((rows * columns - len(clips), *clips.shape[1:]), 255, np.uint8)
    grid = np.concatenate([clips, missing]).reshape(rows, columns, *clips.shape[1:])
    return np.stack([_tiled(grid[:, :, i]) for i in range(clips.shape[1])])


def _tiled(images: UInt8[np.ndarray, "rows columns h w c"]) -> UInt8[np.ndarray, "H W c"]:
    padded = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, h, w, c = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)[:-GAP, :-GAP]
