"""Embeddings of time and position as vectors."""

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


def sinusoidal(position: Shaped[Array, " n"], width: int, *, max_period: float) -> Float[Array, "n width"]:
    """Cosines and sines of `position` at width / 2 geometric frequencies, from 1 down to 1 / max_period.

    Source: Vaswani et al. 1706.03762, section 3.5.
    """
    angles = _angles(position, width // 2, max_period)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _angles(position: Array, n: int, max_period: float) -> Array:
    frequencies = jnp.exp(-np.log(max_period) * jnp.arange(n, dtype=jnp.float32) / n)
    return position[:, None].astype(jnp.float32) * frequencies[None]


def _grid(*sides: int) -> tuple[Array, ...]:
    """The index along each axis of all positions of a grid, row by row."""
    return tuple(axis.ravel() for axis in jnp.meshgrid(*map(jnp.arange, sides), indexing="ij"))


def grid_positions(height: int, width: int, channels: int) -> Float[Array, "tokens channels"]:
    """Sinusoidal position embedding of a grid, row by row, in the channel order of the published DiT.

        [sin(w column), cos(w column), sin(w row), cos(w row)],    w_i = 10000^(-i / n), n = channels / 4

    Source: Peebles and Xie 2212.09748, facebookresearch/DiT, models.py, get_2d_sincos_pos_embed.
    """
    row, column = (_angles(axis, channels // 4, 1e4) for axis in _grid(height, width))
    return jnp.concatenate([f(angles) for angles in (column, row) for f in (jnp.sin, jnp.cos)], axis=-1)


def rotate(
    x: Float[Array, "b n heads d"], height: int, width: int, frames: int = 1, *, in_space: bool = True
) -> Float[Array, "b n heads d"]:
    """Rotary position embedding of queries or keys on a grid: q . k depends on relative positions only.

    The channels of a head form pairs, each rotated by an angle: half of them by the row times a frequency,
    the other half by the column, with geometric frequencies from 1 down to 1 / 10,000. To each angle the
    frame is added, times the same frequencies in reverse order: pairs that turn slowly in space turn fast in
    time, and the first frame is rotated as an image.

    Args:
        x: queries or keys of the positions, frame by frame and row by row.
        height: rows of the grid.
        width: columns.
        frames: number of frames.
        in_space: whether rows and columns count, or the frame alone.

    Raises:
        ValueError: the number of channels per head is not a multiple of 4.

    Source: Su et al. 2104.09864, section 3.2, once per axis; frequencies of several axes in a pair as in
    RoPE-Mixed, Heo et al. 2403.13298.
    """
    d = x.shape[-1]
    if d % 4:
        raise ValueError(f"{d} channels per head: must be a multiple of 4 for rotary positions")
    frame, *axes = _grid(frames, height, width)
    in_time = _angles(frame, d // 4, 1e4)[:, ::-1]
    axes = axes if in_space else [jnp.zeros_like(axis) for axis in axes]
    angles = jnp.concatenate([_angles(axis, d // 4, 1e4) + in_time for axis in axes], axis=-1)
    cos, sin = (f(angles)[None, :, None] for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return turned.astype(x.dtype)


def rotate_pairs(
    x: Float[Array, "b n heads d"], height: int, width: int, axes: tuple[int, int, int]
) -> Float[Array, "b n heads d"]:
    """Rotary position embedding of FLUX: neighbouring channels form pairs, and each axis has its own.

    The first axes[0] channels belong to an axis of length one, and are not rotated; the next axes[1] to the
    rows, the last axes[2] to the columns, with geometric frequencies from 1 down to 1 / 10,000.

    Source: Su et al. 2104.09864, section 3.4.2.
    """
    parts = [_angles(axis, d // 2, 1e4) for axis, d in zip(_grid(height, width), axes[1:], strict=True)]
    angles = jnp.concatenate([jnp.zeros((height * width, axes[0] // 2), jnp.float32), *parts], axis=-1)
    cos, sin = (f(angles)[None, :, None] for f in (jnp.cos, jnp.sin))
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


class TimeEmbedding(linen.Module):
    """Embedding of t in [0, 1]: sinusoids, then a two-layer MLP. Computed in float32.

    Attributes:
        width: length of the vector.
        frequencies: number of sinusoids; even.
        learned: use sqrt 2 [sin, cos](2 pi w t) with learned frequencies w, initially standard normal, as in
            the chapter, instead of cosines and sines of 1000 t at geometric frequencies.
        period: of the slowest sinusoid, nearly, in multiples of 2 pi.
        zero: whether the embedding is zero at initialisation.
    """

    width: int
    frequencies: int = 128
    learned: bool = False
    period: float = 1e4
    zero: bool = False

    @linen.compact
    def __call__(self, t: Float[Array, " b"]) -> Float[Array, "b width"]:
        if self.learned:
            features = Fourier(self.frequencies, name="fourier")(t)
        else:
            features = sinusoidal(1000 * t, self.frequencies, max_period=self.period)
        hidden = linen.silu(linen.Dense(self.width, name="hidden")(features))
        init = linen.initializers.zeros if self.zero else linen.initializers.lecun_normal()
        return linen.Dense(self.width, kernel_init=init, name="out")(hidden)


class Fourier(linen.Module):
    """sqrt 2 [sin, cos](2 pi w t) at width / 2 learned frequencies w; its mean square is 1 for every t."""

    width: int

    @linen.compact
    def __call__(self, t: Float[Array, " b"]) -> Float[Array, "b width"]:
        w = self.param("w", linen.initializers.normal(1.0), (self.width // 2,))
        angles = 2 * np.pi * t[:, None] * w[None]
        return np.sqrt(2.0).astype(np.float32) * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
