"""Patchify and unpatchify, exact inverses of each other."""

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
