"""Options of `sample` for models of clips: their length, and the files that play them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from jaxflow import ranges
from jaxflow.data.clip_files import LEAST_RATE, MOST_RATE, encoded
from jaxflow.data.strips import mosaic
from jaxflow.places import Place
from jaxflow.runs.edits import Edit, extended
from jaxflow.spaces import Space
from jaxflow.training.files import atomic_write

MOST_FRAMES = 10_000


@dataclass(frozen=True)
class Clips:
    """Clips of any length, as files."""

    frames: int | None = None
    """Frames of a clip; beyond the model's number a clip is continued, window by window. If omitted, that."""
    keep: int | None = None
    """With --frames, the last frames that the next window continues; if omitted, a quarter of the model's."""
    rate: float = 8.0
    """Frames per second of the files."""
    format: Literal["webp", "gif", "png", "mp4"] = "webp"
    """Of the files: animated WebP, GIF or PNG, or MP4, which needs jaxflow[video]."""

    def check(self, space: Space) -> None:
        """Raise a ValueError that names an option that the model cannot have."""
        shape = space.image_shape
        if len(shape) != 4:
            if self != Clips():
                raise ValueError("frames, keep, rate, format: for clips, and the model draws images")
            return
        if not LEAST_RATE <= self.rate <= MOST_RATE:
            limits = f"from {LEAST_RATE} to {MOST_RATE} frames per second"
            raise ValueError(f"rate = {self.rate}: must be {limits}")
        if self.frames is None:
            if self.keep is not None:
                raise ValueError(f"keep = {self.keep}: has no effect without --frames")
            return
        ranges.at_least(2, MOST_FRAMES, frames=self.frames)
        if self.keep is not None:
            ranges.at_least(1, shape[0] - 1, keep=self.keep)

    def length(self, space: Space) -> int:
        """Frames of a clip, one of an image."""
        return self.frames or (space.image_shape[0] if len(space.image_shape) == 4 else 1)

    def drawn(
        self,
        draw: Callable[[Edit | None, int], UInt8[np.ndarray, "n *image"]],
        space: Space,
        edit: Edit | None,
    ) -> UInt8[np.ndarray, "n *image"]:
        """Images, or clips of this length.

        Args:
            draw: those of the model, from an edit and the number of a window, from 0.
            space: of the model.
            edit: of the first window.
        """
        first = draw(edit, 0)
        if self.frames is None:
            return first
        keep = max(1, space.image_shape[0] // 4) if self.keep is None else self.keep
        return extended(draw, space, first, frames=self.frames, keep=keep)

    def write(self, clips: UInt8[np.ndarray, "n f h w c"], columns: int, file: Place) -> None:
        """All clips as one that plays them side by side, in rows of `columns`, with the format's suffix."""
        suffix = f".{self.format}"
        content: Any = encoded(mosaic(clips, columns), self.rate, suffix)
        with atomic_write(file.with_name(file.name + suffix)) as stream:
            stream.write(content)
