r"""Frequency-decoupled guidance: one scale per band of frequencies of the difference of the two velocities.

A Laplacian pyramid splits an image into bands that add up to it: with down(v) half its size and up(v) twice,

    v = [v - up(down v)] + up([down v - up(down down v)] + up(...)),

and band i of d = u(x | y) - u(x) is multiplied by share_i (w - 1). The pyramid is linear, so that it does not
matter whether velocities, noise or data are split. Low frequencies, the composition and the colours, lose
diversity at large w; high ones, the details, gain from it.

`down` blurs with the weights 1, 4, 6, 4, 1, mirrored at the borders, and takes the means of pairs; `up`
interpolates linearly and blurs. Half of an odd side is rounded up. For sides that are powers of two it is the
pyramid of kornia, which diffusers uses; other images may be enlarged there first.

Source: Sadat et al. 2506.19713; Burt and Adelson 1983 for the pyramid.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import alone, both, cheapest
from jaxflow.guidance.scales import Number, scale_at
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def frequency_decoupled(shares: Sequence[Number] = (1.0, 0.5)) -> Rule:
    """u(x | y) + (w - 1) sum_i share_i band_i(u(x | y) - u(x)); one call with 2b examples.

    The scale of band i is 1 + share_i (w - 1). Of clips each frame is split; an event without rows and
    columns is of low frequency as a whole.

    Args:
        shares: one per band, from the highest frequencies down; all 1 is classifier-free guidance.

    The paper gives the scales of the bands, 10 and 5 for Stable Diffusion XL: w = 10 and shares (1, 4 / 9).

    Raises:
        ValueError: there is no share, or one is not finite; from the rule: w is not finite, or, while
            tracing, the field does not return the shape of x.

    >>> there = lambda x, t, y: y
    >>> image = jnp.ones((1, 4, 4, 1))  # without high frequencies
    >>> guided = frequency_decoupled((1.0, 0.5))(there, image, jnp.zeros((4, 4, 1)), 3.0)
    >>> guided(jnp.zeros_like(image), jnp.zeros(1))[0, 0, 0].tolist()
    [2.0]
    """
    ranges.not_empty(shares=tuple(shares))
    for i, share in enumerate(shares):
        ranges.finite(**{f"shares[{i}]": share})

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            change = _weighted(conditional - unguided, shares)
            return conditional + expand(scale_at(w, t) - 1, x) * change

        return cheapest(w, guided, at_1=alone(field, y))

    return rule


def _weighted(difference: Array, shares: Sequence[Number]) -> Array:
    """The sum of the bands, each times its share."""
    share = expand(shares[0], difference)
    if len(shares) == 1:
        return share * difference
    sides = difference.shape[-3:-1] if difference.ndim > 3 else ()
    up = [_up(n).astype(difference.dtype) for n in sides]
    lower = _along_sides(difference, [_down(n).astype(difference.dtype) for n in sides])
    band = difference - _along_sides(lower, up)
    return share * band + _along_sides(_weighted(lower, shares[1:]), up)


def _along_sides(image: Array, matrices: list[np.ndarray]) -> Array:
    """Rows and columns multiplied by a matrix each."""
    if not matrices:
        return image
    return jnp.einsum("ih,...hwc,jw->...ijc", matrices[0], image, matrices[1], precision="highest")


def _down(n: int) -> np.ndarray:
    """Blur and take the means of pairs, (n / 2, n); an odd one is its own mean."""
    first = np.arange(0, n, 2)
    blur = _blur(n)
    return (blur[first] + blur[np.minimum(first + 1, n - 1)]) / 2


def _up(n: int) -> np.ndarray:
    """Interpolate to twice the size and blur, (n, n / 2)."""
    half = -(-n // 2)
    place = np.clip((np.arange(n) + 0.5) / 2 - 0.5, 0, half - 1)[:, None]
    return _blur(n) @ np.maximum(1 - np.abs(place - np.arange(half)[None]), 0)


def _blur(n: int) -> np.ndarray:
    mirrored = np.pad(np.eye(n), ((2, 2), (0, 0)), mode="reflect")
    return np.sum([weight * mirrored[k : k + n] for k, weight in enumerate((1, 4, 6, 4, 1))], axis=0) / 16
