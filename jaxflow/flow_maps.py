r"""Flow maps: X(x, t, s) is where the ODE that passes x at time t is at time s.

    X(x, t, s) = x + (s - t) U(x, t, s)

U is the average velocity from t to s, at s = t the velocity u(x, t). A network that has learnt U samples in
one jump from 0 to 1, or in n. Any of three identities, with U = u at s = t, has the map as its only solution,
and is a loss (`map_losses`):

    semigroup     X(X(x, t, r), r, s) = X(x, t, s)
    Lagrangian    dX/ds = u(X, s)
    Eulerian      dX/dt + (grad X) u(x, t) = 0

All functions here are of U, which has no singularity at s = t.

Source: Boffi et al. 2406.07507; Geng et al. 2505.13447.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import mixtures, per_example
from jaxflow.mixtures import Labels, Mixture
from jaxflow.per_example import Times, expand
from jaxflow.sampling import sample_ode
from jaxflow.solvers import Solver
from jaxflow.times import Grid, grid
from jaxflow.typing import AverageVelocity, Condition, GaussianPath, GuidedAverage, VectorField


def jump(
    average: AverageVelocity, x: Float[Array, "b *event"], t: Times, s: Times
) -> Float[Array, "b *event"]:
    """The point X(x, t, s), (b, *event); t and s are one time per example, or one for all.

    >>> jump(lambda x, t, s: jnp.ones_like(x), jnp.zeros((1, 1)), 0.25, 1.0).item()
    0.75
    """
    t, s = per_example.times(t, x), per_example.times(s, x)
    return x + expand(s - t, x) * per_example.check_shape(average(x, t, s), x)


def sample(
    average: AverageVelocity, noise: Float[Array, "b *event"], times: Grid, *, trajectory: bool = False
) -> Float[Array, "..."]:
    """Jump from `noise` along the grid: n calls for n steps.

    Args:
        average: (x, t, s) -> the average velocity from t to s.
        noise: starting point, (b, *event), at times[0].
        times: grid, (n + 1,), or a number of equal steps; decreasing to go from data to noise.
        trajectory: return all points, (n + 1, b, *event), not just the last.

    Raises:
        ValueError: the times are outside [0, 1], or `average` does not return the shape of x.

    >>> sample(lambda x, t, s: -x, jnp.ones((1, 1)), 2).item()
    0.25
    """
    steps = grid(times)

    def step(x, ends):
        x = jump(average, x, *ends)
        return x, x if trajectory else None

    end, points = jax.lax.scan(step, noise, (steps[:-1], steps[1:]))
    return jnp.concatenate([noise[None], points]) if trajectory else end


def velocity(average: AverageVelocity) -> VectorField:
    """The field u(x, t) = U(x, t, t) of a map.

    >>> velocity(lambda x, t, s: x + expand(t + s, x))(jnp.ones((1, 1)), jnp.array([0.25])).item()
    1.5
    """
    return lambda x, t: average(x, t, t)


def bind(average: GuidedAverage, y: Condition) -> AverageVelocity:
    """The average velocity with its condition bound.

    >>> toward = lambda x, t, s, y: expand(y, x) - x
    >>> bind(toward, jnp.array([2.0]))(jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones(1)).item()
    2.0
    """
    return lambda x, t, s: average(x, t, s, y)


def compose(average: AverageVelocity, fraction: Float[Array, ""] | float = 0.5) -> AverageVelocity:
    """The average velocity of two jumps, of which the first goes this fraction of the way, in [0, 1].

    By the semigroup identity it is that of one jump, if the map is exact.

    >>> compose(lambda x, t, s: x)(jnp.ones((1, 1)), jnp.zeros(1), jnp.ones(1)).item()  # 1.5 ** 2 - 1
    1.25
    """

    def composed(x: Array, t: Array, s: Array) -> Array:
        share = jnp.asarray(fraction, t.dtype)
        between = t + share * (s - t)
        first = average(x, t, between)
        second = average(x + expand(between - t, x) * first, between, s)
        return expand(share, x) * first + expand(1 - share, x) * second

    return composed


def from_field(field: VectorField, steps: int, *, solver: Solver | None = None) -> AverageVelocity:
    """The average velocity of a field by a solver, in equal steps from t to s; midpoint by default.

    Raises:
        ValueError: solver draws noise, or the field is stateful.

    >>> from jaxflow import solvers
    >>> average = from_field(lambda x, t: -x, 10, solver=solvers.rk4())
    >>> round(jump(average, jnp.ones((1, 1)), 0.0, 0.5).item(), 4)
    0.6065
    """
    per_example.without_memory(field, "give a field, or the map of one")

    def average(x: Array, t: Array, s: Array) -> Array:
        # U is the integral of u along the way: dz/dr = u(x + (s - t) z, t + r (s - t)) from 0 to 1.
        length = s - t
        along = lambda z, r: field(x + expand(length, x) * z, t + r * length)  # noqa: E731
        return sample_ode(along, jnp.zeros_like(x), steps, solver=solver)

    return average


def of_gaussian(mixture: Mixture, path: GaussianPath, y: Labels = None) -> AverageVelocity:
    """The exact average velocity to Gaussian data: to the component y of each example, or to the only one.

    In the eigenbasis of the covariance, X = alpha(s) m + (S(s) / S(t))^(1/2) (x - alpha(t) m), where
    S = alpha^2 C + beta^2 I.

    Raises:
        ValueError: y is None, and there are several components.
    """
    k = mixture.weights.shape[0]
    if y is None and k > 1:
        raise ValueError(f"y = None: must be a component for each example, since there are {k}")

    def average(x: Array, t: Array, s: Array) -> Array:
        component = jnp.zeros(x.shape[:1], int) if y is None else y
        eigenvalues, vectors = jnp.linalg.eigh(mixture.covariances[component])
        mean = mixture.means[component]
        variances = [
            expand(path.alpha(r), x) ** 2 * eigenvalues + expand(path.beta(r), x) ** 2 for r in (t, s)
        ]
        rotated = jnp.einsum("bde,bd->be", vectors, x - expand(path.alpha(t), x) * mean, precision="highest")
        moved = rotated * jnp.sqrt(variances[1] / variances[0])
        end = expand(path.alpha(s), x) * mean + jnp.einsum("bde,be->bd", vectors, moved, precision="highest")
        length = expand(s - t, x)
        still = mixtures.velocity(mixture, path, x, t, component)
        return jnp.where(length == 0, still, (end - x) / jnp.where(length == 0, 1, length))

    return average
