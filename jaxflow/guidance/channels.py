"""Classifier-free guidance of some channels only."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def on_channels(n: int) -> Rule:
    """Classifier-free guidance of the first n channels; the others are those of the conditional model.

    The original code of DiT and SiT guides 3 of the 4 channels of its latents, diffusers all of them.

    Raises:
        ValueError: n is below 1.

    Source: Peebles and Xie 2212.09748, facebookresearch/DiT, models.py, forward_with_cfg.

    >>> toward = lambda x, t, y: y[:, None] - x
    >>> guided = on_channels(1)(toward, jnp.array([1.0]), jnp.array(0.0), 3.0)
    >>> guided(jnp.zeros((1, 2)), jnp.zeros(1)).tolist()
    [[3.0, 1.0]]
    """
    ranges.at_least(1, n=n)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def mixed(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            guided = affine(unguided, conditional, w, t)
            return jnp.where(jnp.arange(x.shape[-1]) < n, guided, conditional)

        return cheapest(w, mixed, at_1=alone(field, y))

    return rule
