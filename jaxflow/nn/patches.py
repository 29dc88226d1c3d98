"""Patchify and unpatchify, exact inverses of each other."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def to_patches(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b rows columns d"]:
    """Patchify: each size x size patch becomes one vector of size^2 c numbers (space to depth).

    Raises:
        ValueError: `size` does not divide height and width.
    """
    b, h, w, c = x.shape
    if h % size or w % size:
        raise ValueError(f"patch size {size}: must divide the image size {h} x {w}")
    x = x.reshape(b, h // size, size, w // size, size, c)
    return x.swapaxes(2, 3).reshape(b, h // size, w // size, size * size * c)


def from_patches(patches: Float[Array, "b rows columns d"], size: int) -> Float[Array, "b h w c"]:
    """Unpatchify: the image with these patches (depth to space)."""
    b, rows, columns, d = patches.shape
    x = patches.reshape(b, rows, columns, size, size, d // size**2)
    return x.swapaxes(2, 3).reshape(b, rows * size, columns * size, d // size**2)


def to_tubes(
    x: Float[Array, "b *f h w c"], size: int, length: int
) -> Float[Array, "b frames rows columns d"]:
    """The patches of a clip over `length` frames each; an image is repeated to fill them.

    Raises:
        ValueError: `length` does not divide the number of frames, or `size` height and width.
    """
    frames = math.prod(x.shape[1:-3])
    clip = x.reshape(x.shape[0], frames, *x.shape[-3:])
    if frames == 1:
        clip = jnp.broadcast_to(clip, (clip.shape[0], length, *clip.shape[2:]))
    elif frames % length:
        raise ValueError(f"tube = {length}: must divide the {frames} frames of a clip")
    patches = to_patches(clip.reshape(-1, *clip.shape[2:]), size)
    tubes = patches.reshape(clip.shape[0], -1, length, *patches.shape[1:])
    return jnp.moveaxis(tubes, 2, 4).reshape(*tubes.shape[:2], *patches.shape[1:3], -1)


def from_tubes(
    tubes: Float[Array, "b frames rows columns d"], size: int, length: int, shape: tuple[int, ...]
) -> Float[Array, "b *f h w c"]:
    """The array of this shape with these patches; an image is the mean of its repetitions.

    Channels beyond those of the shape are dropped.
    """
    b, n, rows, columns, _ = tubes.shape
    patches = jnp.moveaxis(tubes.reshape(b, n, rows, columns, length, -1), 4, 2)
    frames = from_patches(patches.reshape(b * n * length, rows, columns, -1), size)[..., : shape[-1]]
    if math.prod(shape[1:-3]) == 1:
        frames = jnp.mean(frames.reshape(b, length, *frames.shape[1:]), axis=1)
    return frames.reshape(shape)


def to_channels(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b _ _ _"]:
    """As `to_patches`, but with the pixels of a channel together: (b, h / side, w / side, c side^2).

    >>> import jax.numpy as jnp
    >>> to_channels(jnp.arange(8.0).reshape(1, 2, 2, 2), 2).ravel().tolist()
    [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]
    """
    b, h, w, c = x.shape
    squares = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 5, 2, 4)
    return squares.reshape(b, h // side, w // side, c * side**2)


def from_channels(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b _ _ _"]:
    """The inverse of `to_channels`."""
    b, h, w, c = x.shape
    squares = x.reshape(b, h, w, c // side**2, side, side).transpose(0, 1, 4, 2, 5, 3)
    return squares.reshape(b, h * side, w * side, c // side**2)
