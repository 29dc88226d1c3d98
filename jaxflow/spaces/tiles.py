"""A map of images tile by tile, for images whose activations do not fit into memory.

Each tile is mapped with a margin of its surroundings, of which nothing is kept:

    whole and tiled agree where the receptive field of an output reaches no further than the margin

Convolutions alone have such a field: in TAESD it reaches 145 pixels in encoding, and 19 latents in decoding.
Attention and group norm see the whole image: with them (`AutoencoderKL`, and the global branch of FLUX.2's
TAESD) tiles are mapped with other statistics, so that colours may step at their borders; the larger the
tiles, the less.
"""

from collections.abc import Callable
from fractions import Fraction

import jax.numpy as jnp
from jaxtyping import Array, Shaped

Image = Shaped[Array, "b _ _ _"]


def tiled(
    function: Callable[[Image], Image], x: Image, *, tile: int, margin: int, scale: Fraction | int
) -> Image:
    """`function(x)` tile by tile, by calls of one shape.

    Args:
        function: (b, h, w, c) -> (b, scale h, scale w, k).
        x: the whole image.
        tile: side of a tile of x.
        margin: mapped with a tile on each of its sides, where the image goes on.
        scale: pixels of the result to one of x: 1 / f for an encoder, f for a decoder.

    Raises:
        ValueError: `tile` is not positive or `margin` negative, or the scale does not keep them whole.
    """
    if tile < 1 or margin < 0:
        raise ValueError(f"tile = {tile}, margin = {margin}: must be at least 1 and at least 0")
    for name, side in (("tile", tile), ("margin", margin), ("height", x.shape[1]), ("width", x.shape[2])):
        if (side * Fraction(scale)).denominator != 1:
            raise ValueError(f"{name} = {side}: must be a multiple of {Fraction(scale).denominator}")

    def rows_of(x: Image, axis: int, function: Callable[[Image], Image]) -> Image:
        side, parts = x.shape[axis], []
        window = min(side, tile + 2 * margin)
        for start in range(0, side, tile):
            first = min(max(start - margin, 0), side - window)
            seen = function(jnp.take(x, jnp.arange(first, first + window), axis=axis))
            kept = range(int((start - first) * scale), int((min(start + tile, side) - first) * scale))
            parts.append(jnp.take(seen, jnp.asarray(kept), axis=axis))
        return jnp.concatenate(parts, axis=axis)

    return rows_of(x, 1, lambda row: rows_of(row, 2, function))
