"""Edits: a picture that samples start from, or of which they keep a part, as the first frames of a clip.

Clips of any length are drawn window by window (`extended`), each with the last frames of the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from jaxflow import editing, ranges
from jaxflow.spaces import Space
from jaxflow.typing import Keys

MOST_REPEATS = 1000

static = partial(field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Edit:
    """An edit of one picture, or of one for each image."""

    data: Float[Any, "..."]
    """The picture as an event, or those of all images, (n, *event)."""
    known: Bool[Any, "..."] | None
    """Where it is kept, broadcasting against the event; None for variations of all of it."""
    strength: float = static(default=1.0)
    """Of variations: 0 returns the picture, 1 samples from noise."""
    repeats: int = static(default=1)
    """How often each step is made, so that the new part agrees with the kept one."""

    def sample(
        self, keys: Keys, field: Any, path: Any, grid: Float[Array, " steps"], solver: Any
    ) -> Float[Array, "n *event"]:
        """An edit of each event, along the grid."""
        of = (keys, field, path, self.data)
        if self.known is None:
            return editing.image_to_image(*of, grid, strength=self.strength, solver=solver)
        return editing.inpaint(*of, self.known, grid, repeats=self.repeats, solver=solver)


def edit(
    space: Space,
    picture: Any,
    *,
    strength: float | None = None,
    mask: Any = None,
    repeats: int = 1,
) -> Edit:
    """The edit of a picture, as an argument of `Model.sample`.

    Args:
        space: of the model, `model.space`.
        picture: uint8 (h, w, c), of the size of the model's images. Of a model of clips a clip; or its first
            frame, (h, w, c), or first frames, which are kept, without strength or mask.
        strength: how far the images may differ from it, in (0, 1]; instead of a mask.
        mask: bool (h, w), where to draw anew; the rest is kept, in latents but for the pixels next to it.
        repeats: with a mask, how often each step is made, so that the parts agree better.

    Raises:
        ValueError: picture or mask have another size, both or neither of strength and mask are given, or a
            number is out of range; the message names it.
    """
    shape = space.image_shape
    if _is_beginning(picture, shape):
        if strength is not None or mask is not None:
            raise ValueError("strength, mask: have no effect with the first frames of a clip, which are kept")
        frames = np.asarray(picture).reshape(1, -1, *shape[1:])
        return continuing(space, frames, repeats)
    if np.shape(picture) != shape or np.asarray(picture).dtype != np.uint8:
        raise ValueError(
            f"picture: {np.asarray(picture).dtype} of the shape {np.shape(picture)}: expected uint8 {shape}"
        )
    if (strength is None) == (mask is None):
        raise ValueError("strength, mask: expected one of them: for variations, or to draw a part anew")
    data = np.asarray(space.encode(jnp.asarray(picture)[None])[0])
    if mask is None:
        ranges.fraction(strength=strength)
        ranges.positive(strength=strength)
        if repeats != 1:
            raise ValueError(f"repeats = {repeats}: has no effect without a mask")
        return Edit(data, None, float(strength))  # type: ignore[arg-type]
    ranges.at_least(1, MOST_REPEATS, repeats=repeats)
    if np.shape(mask) != shape[-3:-1]:
        raise ValueError(f"mask: the shape {np.shape(mask)}: expected {shape[-3:-1]}, as the picture")
    new = np.asarray(mask, bool)
    if new.all() or not new.any():
        raise ValueError("mask: must have both a part to draw anew, white, and one to keep, black")
    return Edit(data, ~_covered(new, data.shape[-3:-1])[..., None], repeats=repeats)


def continuing(space: Space, frames: UInt8[Any, "n k h w c"], repeats: int = 1) -> Edit:
    """The edit that keeps the first k frames of n clips.

    Raises:
        ValueError: there are no frames, or as many as the clips of the model have.
    """
    ranges.at_least(1, MOST_REPEATS, repeats=repeats)
    n, (length, *image) = space.event_shape[0], space.image_shape
    k = frames.shape[1]
    if not 1 <= k < length:
        raise ValueError(
            f"{k} frames are to be kept: must be from 1 to {length - 1}, of {length} of the model"
        )
    rest = np.broadcast_to(frames[:, -1:], (len(frames), length - k, *image))
    # The first event has the first frame, the others as many frames each.
    known = k if n == length else 1 + (k - 1) * (n - 1) // (length - 1)
    data = space.encode(jnp.asarray(np.concatenate([frames, rest], axis=1)))
    return Edit(np.asarray(data), np.arange(n)[:, None, None, None] < known, repeats=repeats)


def extended(
    draw: Callable[[Edit, int], UInt8[np.ndarray, "n f h w c"]],
    space: Space,
    clips: UInt8[np.ndarray, "n k h w c"],
    *,
    frames: int,
    keep: int,
    repeats: int = 1,
) -> UInt8[np.ndarray, "n frames h w c"]:
    """Clips continued to any length.

    Args:
        draw: n clips of the model's length, from an edit and the number of the window, 1, 2, ...
        space: of the model.
        clips: to continue.
        frames: of the result.
        keep: last frames that each window continues.
        repeats: as of `edit`.

    Raises:
        ValueError: `keep` is not from 1 to the model's frames less one.
    """
    ranges.at_least(1, space.image_shape[0] - 1, keep=keep)
    number = 0
    while clips.shape[1] < frames:
        number, kept = number + 1, clips[:, -keep:]
        window = draw(continuing(space, kept, repeats), number)
        clips = np.concatenate([clips, window[:, kept.shape[1] :]], axis=1)
    return clips[:, :frames]


def _is_beginning(picture: Any, shape: tuple[int, ...]) -> bool:
    """Whether a picture has the shape of the first frame, or frames, of a clip of this shape."""
    given = np.shape(picture)
    if len(shape) != 4 or given[-3:] != shape[1:]:
        return False
    return len(given) == 3 or (len(given) == 4 and given[0] < shape[0])


def _covered(mask: Bool[np.ndarray, "h w"], shape: tuple[int, ...]) -> Bool[np.ndarray, "i j"]:
    """Events of which some pixel is in the mask."""
    rows, columns = shape
    blocks = mask.reshape(rows, mask.shape[0] // rows, columns, mask.shape[1] // columns)
    return np.any(blocks, axis=(1, 3))
