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
