r"""CFG++ as a schedule of w: guided data, but unguided noise, in each step of DDIM.

With D0 and D1 the predicted data without and with y, n0 the predicted noise without, and a, b and a', b' the
alpha and beta at the two ends of a step, CFG++ steps to

    x' = a' (D0 + w (D1 - D0)) + b' n0.

Classifier-free guidance of scale s steps to a' D~ + b' n~, with D~ = D0 + s (D1 - D0) and the noise that
belongs to it at x, n~ = (x - a D~) / b = n0 - (a / b) s (D1 - D0). That is

    x' = a' D0 + b' n0 + s (a' - b' a / b) (D1 - D0),

and the two steps are equal for

    s = w a' b / (a' b - a b'),

which is w in a step from noise or to data, and in between grows with the number of steps.

Source: Chung et al. 2406.08070, algorithm 2, whose lambda is w.
"""

from collections.abc import Callable

from jaxtyping import Array

from jaxflow.guidance.scales import check, scale_at
from jaxflow.times import Grid, grid, step_around
from jaxflow.typing import GaussianPath, Scale


def plus_plus(w: Scale, path: GaussianPath, times: Grid) -> Callable[[Array], Array]:
    """The scale with which classifier-free guidance, sampled by DDIM along `times`, is CFG++ of scale w.

    It is constant within each step. Euler on the straight path is DDIM too; for solvers with several calls a
    step, or with noise, it is no more than a schedule. At w = 0 it is the unguided model, at w = 1 not the
    conditional one.

    Args:
        w: a number, published from 0 to 1, one number per example (b,), or a function of t (b,).
        path: the Gaussian path of the field.
        times: grid of the sampler, (n + 1,), or a number of equal steps.

    Raises:
        ValueError: w is not finite, or the times do not increase within [0, 1].

    >>> import jax.numpy as jnp
    >>> from jaxflow import paths
    >>> scale = plus_plus(0.6, paths.Linear(), 3)
    >>> [round(w, 4) for w in scale(jnp.array([0.0, 0.5, 0.9])).tolist()]
    [0.6, 0.8, 0.6]
    """
    check(w)
    steps = grid(times, increasing=True)

    def scale(t: Array) -> Array:
        start, end = step_around(steps.astype(t.dtype), t)
        ratio = path.alpha(start) * path.beta(end) / (path.beta(start) * path.alpha(end))
        return scale_at(w, t).astype(t.dtype) / (1 - ratio)

    return scale
