"""Edits: a picture that samples start from, or of which they keep a part."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxflow import editing, ranges
from jaxflow.spaces import Space
from jaxflow.typing import Keys

static = partial(field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Edit:
    """An edit of one picture."""

    data: Float[Any, "*event"]
    """The picture as an event."""
    known: Bool[Any, "..."] | None
    """Where it is kept, broadcasting against the event; None for variations of all of it."""
    strength: float = static(default=1.0)
    """Of variations: 0 returns the picture, 1 samples from noise."""
    repeats: int = static(default=1)
    """How often each step is made, so that the new part agrees with the kept one."""

    def sample(
        self, keys: Keys, field: Any, path: Any, n: int, grid: Float[Array, " steps"], solver: Any
    ) -> Float[Array, "n *event"]:
        """N edits, along the grid."""
        data = jnp.broadcast_to(self.data[None], (n, *self.data.shape))
        if self.known is None:
            return editing.image_to_image(
                keys, field, path, data, grid, strength=self.strength, solver=solver
            )
        return editing.inpaint(keys, field, path, data, self.known, grid, repeats=self.repeats, solver=solver)


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
        picture: uint8 (h, w, c), of the size of the model's images.
        strength: how far the images may differ from it, in (0, 1]; instead of a mask.
        mask: bool (h, w), where to draw anew; the rest is kept, in latents but for the pixels next to it.
        repeats: with a mask, how often each step is made, so that the parts agree better.

    Raises:
        ValueError: picture or mask have another size, both or neither of strength and mask are given, or a
            number is out of range; the message names it.
    """
    shape = space.image_shape
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
    ranges.at_least(1, 1000, repeats=repeats)
    if np.shape(mask) != shape[:2]:
        raise ValueError(f"mask: the shape {np.shape(mask)}: expected {shape[:2]}, as the picture")
    new = np.asarray(mask, bool)
    if new.all() or not new.any():
        raise ValueError("mask: must have both a part to draw anew, white, and one to keep, black")
    return Edit(data, ~_covered(new, data.shape[:2])[..., None], repeats=repeats)


def _covered(mask: Bool[np.ndarray, "h w"], shape: tuple[int, ...]) -> Bool[np.ndarray, "i j"]:
    """Events of which some pixel is in the mask."""
    rows, columns = shape
    blocks = mask.reshape(rows, mask.shape[0] // rows, columns, mask.shape[1] // columns)
    return np.any(blocks, axis=(1, 3))
