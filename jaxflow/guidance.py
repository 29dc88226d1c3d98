r"""Guidance: from fields to a field.

Bayes' rule for scores, grad log p_t(x | y) = grad log p_t(x) + grad log p_t(y | x), makes a guided
velocity out of an unguided one on a Gaussian path:

    u(x | y) = u(x) + b grad log p_t(y | x),    b = (alpha' beta^2 - beta' beta alpha) / alpha.

Guidance multiplies the second term by w. With a classifier that is `classifier`; replacing the
classifier by the difference of two fields gives `classifier_free`,

    u~ = (1 - w) u(x) + w u(x | y).

w = 0 ignores y, w = 1 is the conditional model, w > 1 strengthens. For w other than 0 and 1 the
ODE and the SDE of the same w end in different laws, and neither is the tilted density
p(x) p(y | x)^w: from a Gaussian pair with variances V (unguided) and v (guided) the ODE ends in
a Gaussian of variance V^(1 - w) v^w.

Other conventions: `guidance_scale` of diffusers, Stable Diffusion, DiT, SiT = w; Ho and Salimans'
paper counts w - 1.

Source: "Building an Image Generator", section on guidance; Ho and Salimans 2207.12598;
Dhariwal and Nichol 2105.05233.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow.paths import coefficients
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Path, Scale, VectorField


def classifier_free(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
    """Classifier-free guidance: u~(x, t) = (1 - w) u(x, t | null) + w u(x, t | y).

    One call of `field` with 2b examples. Where w is a Python number 0 or 1 one half of it would
    not count, and b examples are enough.

    Args:
        field: guided field (x, t, y) -> (b, *event).
        y: condition, a pytree with a leading axis of b examples.
        null: the condition that says nothing, the same structure for one example.
        w: a number, one number per example (b,), or a function of t (b,).

    Raises:
        ValueError: w is not finite.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> guided = classifier_free(toward, jnp.array([1.0]), jnp.array(0.0), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    3.0
    """
    _check_scale(w)
    nothing = jax.tree.map(
        lambda leaf, none: jnp.broadcast_to(jnp.asarray(none, leaf.dtype), leaf.shape), y, null
    )
    if _is_number(w, 1):
        return lambda x, t: field(x, t, y)
    if _is_number(w, 0):
        return lambda x, t: field(x, t, nothing)
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), nothing, y)

    def guided(x: Array, t: Array) -> Array:
        velocities = field(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both)
        unguided, conditional = jnp.split(velocities, 2)
        return affine(unguided, conditional, w, t)

    return guided


def classifier(
    field: VectorField,
    path: Path,
    log_prob: Callable[[Array, Array, Condition], Array],
    y: Condition,
    w: Scale,
) -> VectorField:
    """Classifier guidance: u~(x, t) = u(x, t) + w b(t) grad_x log p_t(y | x).

    At t = 0, where b is infinite and the gradient zero, the product is the limit
    w beta^2 d/dt grad_x log p_t(y | x) = w alpha' (E[data | y] - E[data]).

    Args:
        field: unguided field (x, t) -> (b, *event).
        path: the Gaussian path of the field.
        log_prob: the classifier of noisy data, (x, t, y) -> log p_t(y | x), (b,), in nats.
        y: condition, a pytree with a leading axis of b examples.
        w: a number, one number per example (b,), or a function of t (b,).

    Raises:
        ValueError: w is not finite.
    """
    _check_scale(w)
    if _is_number(w, 0):
        return field

    def gradient(x: Array, t: Array) -> Array:
        return jax.grad(lambda x: jnp.sum(log_prob(x, t, y)))(x)

    def inside(x: Array, t: Array) -> Array:
        alpha, beta, d_alpha, d_beta = coefficients(path, t)
        b = (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        return expand(b, x) * gradient(x, t)

    def from_start(x: Array, t: Array) -> Array:
        _, slope = jax.jvp(lambda t: gradient(x, t), (t,), (jnp.ones_like(t),))
        limit = expand(path.beta(t) ** 2, x) * slope
        at_start = expand(path.alpha(t), x) == 0
        return jnp.where(at_start, limit, inside(x, t))

    def guided(x: Array, t: Array) -> Array:
        # The limit needs a second derivative: it is computed in the step that begins at t = 0 only.
        term = jax.lax.cond(jnp.any(path.alpha(t) == 0), from_start, inside, x, t)
        return field(x, t) + expand(_scale_at(w, t), x) * term

    return guided


def affine(
    unguided: Float[Array, "b *event"], guided: Float[Array, "b *event"], w: Scale, t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """(1 - w) unguided + w guided, the rule that all conversions between predictions commute with.

    A side with no weight is not looked at: 0 times an infinite value would be nan.
    """
    scale = expand(_scale_at(w, t), guided)
    mixed = unguided + scale * (guided - unguided)
    return jnp.where(scale == 0, unguided, jnp.where(scale == 1, guided, mixed))


def _scale_at(w: Scale, t: Float[Array, " b"]) -> Array:
    return jnp.asarray(w(t) if callable(w) else w)


def _is_number(w: Scale, number: int) -> bool:
    return isinstance(w, (int, float)) and w == number


def _check_scale(w: Scale) -> None:
    if callable(w) or isinstance(w, jax.core.Tracer):
        return
    if not np.all(np.isfinite(w)):
        raise ValueError(f"w = {w}: the guidance scale must be finite")
