r"""Tangential damping: the unguided noise loses its part across the direction shared by both predictions.

With n0 and n1 the predicted noise without and with y, and v = c0 n0 + c1 n1 the first right singular vector
of the matrix with rows n1 and n0, n0 is replaced by its projection on v, in part:

    n0' = n0 - share (n0 - <n0, v> v / |v|^2),    n~ = (1 - w) n0' + w n1.

In velocities, with d = u(x | y) - u(x) and g the factor from velocities to noise, the factor cancels:

    u0' = u(x) - share c1 (<d, v> n0 - <n0, v> d) / |v|^2,    v = (c0 + c1) n0 + c1 g d.

It is finite at both ends; at t = 0, where g = 0 and all noise is x, the part of d across x is halved.

Source: Kwon et al. 2503.18137. They and we project the noise, or the score, of which it is a multiple;
diffusers projects whatever the network predicts, for a flow its velocity.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.guidance.scales import Number
from jaxflow.per_example import expand
from jaxflow.predictions import gain, parts
from jaxflow.typing import Condition, GaussianPath, GuidedField, Rule, Scale, VectorField


def tangential_damping(path: GaussianPath, *, share: Number = 1.0) -> Rule:
    """(1 - w) u0' + w u(x | y) with the damped unguided velocity u0'; one call with 2b examples.

    At w = 1 it is the conditional field, at share = 0 classifier-free guidance.

    Args:
        path: the Gaussian path of the field.
        share: of the component across v that is removed, 0 to 1; 1 as published.

    Raises:
        ValueError: share is outside [0, 1]; from the rule: w is not finite, or, while tracing, the field does
            not return the shape of x.

    >>> from jaxflow import paths
    >>> there = lambda x, t, y: y
    >>> guided = tangential_damping(paths.Linear())(there, jnp.array([[2.0, 2.0]]), jnp.zeros(2), 3.0)
    >>> guided(jnp.array([[1.0, 0.0]]), jnp.zeros(1)).tolist()  # across x the difference is 1, not 2
    [[6.0, 4.0]]
    """
    ranges.fraction(share=share)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def mixed(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            across = _across(path, x, t, unguided, conditional - unguided)
            return affine(unguided - expand(share, x) * across.astype(x.dtype), conditional, w, t)

        return cheapest(w, mixed, at_1=alone(field, y))

    return rule


def _across(path: GaussianPath, x: Array, t: Array, unguided: Array, difference: Array) -> Array:
    """c1 (<d, v> n0 - <n0, v> d) / |v|^2: the velocity of the component of n0 across v."""
    noise = parts(path, x, t, unguided).noise
    difference = difference.astype(noise.dtype)
    change = expand(gain(path, t, source="velocity", target="noise"), noise) * difference
    guided = noise + change
    # The eigenvector of [[a, b], [b, c]] with the larger eigenvalue is at half the angle of (a - c, 2b).
    product = _dot(guided, noise)
    angle = jnp.arctan2(2 * product, _dot(guided, guided) - _dot(noise, noise)) / 2
    c1, c0 = jnp.cos(angle), jnp.sin(angle)
    shared = (c0 + c1) * noise + c1 * change
    square = _dot(shared, shared)
    along = _dot(difference, shared) * noise - _dot(noise, shared) * difference
    return c1 * along / jnp.where(square > 0, square, 1)


def _dot(one: Array, other: Array) -> Array:
    return jnp.sum(one * other, axis=tuple(range(1, one.ndim)), keepdims=True)
