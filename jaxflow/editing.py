"""Editing data with a field: variations of a given image, and images around the parts that are known.

    image to image    x = alpha(t) data + beta(t) noise at t = 1 - strength, then the ODE to t = 1
    inpainting        before each step the known part of x is set to alpha(t) data + beta(t) noise

The unknown part sees the known one only through the field. By repeating a step the two come to agree: from
t_next the point is taken back to t by the path's own noise,

    x = a x_next + sqrt(beta^2 - (a beta_next)^2) noise,    a = alpha / alpha_next

which preserves the marginals, as the step does. In the limit of many repeats the unknown part is drawn from
its conditional distribution; on a Gaussian its error falls as 1 / repeats.

Source: Meng et al. 2108.01073 (SDEdit); Lugmayr et al. 2201.09865 (RePaint).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxflow import paths, per_example, ranges
from jaxflow.sampling import Field, sample_ode
from jaxflow.solvers import Solver
from jaxflow.times import Grid, grid
from jaxflow.typing import GaussianPath, Keys


def image_to_image(
    key: Keys,
    field: Field,
    path: GaussianPath,
    data: Float[Array, "b *event"],
    times: Grid,
    *,
    strength: float,
    solver: Solver | None = None,
) -> Float[Array, "b *event"]:
    """Variations of `data`, which keep what survives its noise: SDEdit.

    Args:
        key: of the noise, one or one per example.
        field: (x, t) -> dx/dt, guided or not.
        path: of the field.
        data: given images or latents.
        times: increasing grid from 0 to 1, or a number of equal steps; it is scaled to begin at 1 - strength.
        strength: 0 returns the data, 1 samples from noise.
        solver: deterministic method from `jaxflow.solvers`; midpoint by default.

    Raises:
        ValueError: the strength is not in [0, 1], or as `sample_ode`.
    """
    ranges.fraction(strength=strength)
    if strength == 0:
        return data
    start = jnp.full(len(data), 1 - strength, data.dtype)
    noise = per_example.normal(per_example.keys(key, len(data)), data.shape[1:], data.dtype)
    x = paths.interpolate(path, data, noise, start)
    return sample_ode(field, x, 1 - strength + strength * grid(times, increasing=True), solver=solver)


def inpaint(
    key: Keys,
    field: Field,
    path: GaussianPath,
    data: Float[Array, "b *event"],
    known: Bool[Array, "..."],
    times: Grid,
    *,
    repeats: int = 1,
    same_noise: bool = False,
    solver: Solver | None = None,
) -> Float[Array, "b *event"]:
    """Samples whose known part is that of `data`.

    Args:
        key: of all noise, one or one per example.
        field: (x, t) -> dx/dt, guided or not; a rule's momentum begins anew at each step.
        path: of the field.
        data: of which the unknown part has no influence.
        known: where the data are given; broadcasts against them.
        times: increasing grid from 0 to 1, or a number of equal steps.
        repeats: how often each step is made; more let the parts agree better.
        same_noise: whether the known part has the noise of the start at every step, as in diffusers, and not
            new noise. On a DDPM's table, which ends with a little of the data, diffusers starts without it.
        solver: deterministic method from `jaxflow.solvers`; midpoint by default.

    Raises:
        ValueError: repeats is below 1, or as `sample_ode`.
    """
    ranges.at_least(1, repeats=repeats)
    steps, keys = grid(times, increasing=True), per_example.keys(key, len(data))
    draw = lambda keys: per_example.normal(keys, data.shape[1:], data.dtype)  # noqa: E731

    def at(t: Array) -> paths.Coefficients:
        return paths.coefficients(path, jnp.full(len(data), t, data.dtype))

    def advance(x: Array, n: Int[Array, ""]) -> tuple[Array, None]:
        t, t_next = steps[n // repeats], steps[n // repeats + 1]
        now, then, own = at(t), at(t_next), per_example.fold_in(keys, n)
        expand = lambda value: per_example.expand(value, x)  # noqa: E731
        given = expand(now.alpha) * data + expand(now.beta) * (noise if same_noise else draw(own))
        x_next = sample_ode(field, jnp.where(known, given, x), jnp.stack([t, t_next]), solver=solver)
        back = now.alpha / then.alpha
        spread = jnp.sqrt(jnp.maximum(now.beta**2 - (back * then.beta) ** 2, 0))
        again = expand(back) * x_next + expand(spread) * draw(per_example.fold_in(own, 1))
        return jnp.where(n % repeats < repeats - 1, again, x_next), None

    noise = draw(per_example.fold_in(keys, 2**31 - 1))
    x, _ = jax.lax.scan(advance, noise, jnp.arange((len(steps) - 1) * repeats))
    return jnp.where(known, data, x)
