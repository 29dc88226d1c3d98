r"""Per-example losses of flow maps: identities whose only solution is the map.

With the velocity u, the average velocity U, and X = x + (s - t) U, differentiate

    (s - t) U(x, t, s) = X(x, t, s) - x                                                          (1)

**Eulerian.** Follow the ODE from x: the end X stays where it is, so that the rate of (1) is
-U + (s - t) DU = -u, where DU = dU/dt + (grad U) u is one jvp with the tangent (u, 1, 0):

    U = u + (s - t) DU

Conversely, a U that satisfies it satisfies (1) along each trajectory, since both sides vanish at t = s and
have the same rate. The right side is affine in u, so that the conditional velocity, whose mean given x is u,
may stand for it, in the tangent too (MeanFlow). With the network's own U(x, t, t) as tangent, only the
first term varies with the noise (improved MeanFlow).

**Lagrangian.** Move s instead: the rate of (1) is dX/ds = u(X, s), since the end follows the ODE:

    U + (s - t) dU/ds = u(X, s)

Conversely, this ODE in s starts at X = x, and has one solution.

**Semigroup.** Two jumps lead where one does. With r = (t + s) / 2,

    U(x, t, s) = (U(x, t, r) + U(X(x, t, r), r, s)) / 2

Conversely, halving again and again makes U the mean of ever shorter jumps, for which it is u.

In the last two, u(x, t) enters at s = t, where the conditional velocity stands for it; elsewhere the network
is compared with itself. Targets are constants in the gradient.

Source: Geng et al. 2505.13447 (MeanFlow) and 2512.02012 (improved); Boffi et al. 2406.07507, 2505.18825
(Lagrangian); Frans et al. 2410.12557 (shortcut models: semigroup); Song et al. 2303.01469 (s = 1).
"""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.flow_maps import bind, compose
from jaxflow.losses import Rate, square_norm
from jaxflow.paths import conditional_velocity, interpolate
from jaxflow.per_example import expand
from jaxflow.times import Ends, intervals, precision
from jaxflow.typing import Condition, GaussianPath, GeneralPath, GuidedAverage, GuidedField, Keys

Identity = Literal["eulerian", "lagrangian", "semigroup"]
Tangent = Literal["own", "conditional"]

Guide = Callable[[GuidedAverage, Array, Array, Condition, Array], Array]
"""(average, x, t, y, conditional velocity) -> the velocity to learn, whose mean given x is that of a guided
field."""

UNIFORM = intervals()


def flow_map(
    key: Keys,
    average: GuidedAverage,
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    y: Condition,
    *,
    identity: Identity = "eulerian",
    tangent: Tangent = "own",
    velocity: GuidedField | None = None,
    guide: Guide | None = None,
    noise: Float[Array, "b *event"] | None = None,
    ends: Ends = UNIFORM,
    weight: Callable[[Array], Array] | None = None,
    adaptive: float = 0.0,
    edge_weight: Rate = 0.0,
) -> Float[Array, " b"]:
    """Squared error of an identity between random times t and s on each example's path, (b,).

    Args:
        key: one key, or one key per example (b,); times and noise are drawn with separate keys.
        average: (x, t, s, y) -> the average velocity from t to s, (b, *event).
        path: from noise to data.
        data: (b, *event).
        y: condition of each example; only `average`, `velocity` and `guide` see it.
        identity: eulerian, lagrangian or semigroup.
        tangent: of the Eulerian derivative: the network's own velocity, or the conditional one.
        velocity: the field whose map to learn, if it is known: a trained one, guided or not, which then takes
            the place of the conditional velocity, of `tangent`, and of the network's own velocity.
        guide: what to learn in place of the conditional velocity; by default that itself.
        noise: starting points of the paths, (b, *event); standard normal by default.
        ends: distribution of (t, s), from `times.intervals` or `times.to_data`.
        weight: function of t (b,) that multiplies the loss; 1 by default.
        adaptive: power p of the weight 1 / (mean squared error + 1e-3)^p, a constant in the gradient; 1 in
            MeanFlow.
        edge_weight: of the differences of neighbours in the error, see `losses.square_norm`.

    Raises:
        ValueError: an option is none of these, adaptive or edge_weight is negative, or the shapes of data
            and noise differ.

    >>> from jaxflow import paths
    >>> known = lambda x, t, s, y: (y - x) / expand(1 - t, x)  # a straight line to one point, y
    >>> point = jnp.array([[3.0]])
    >>> flow_map(jax.random.key(0), known, paths.Linear(), point, point).round(6).tolist()
    [0.0]
    """
    for name, chosen, kinds in (("identity", identity, Identity), ("tangent", tangent, Tangent)):
        if chosen not in get_args(kinds):
            raise ValueError(f"{name} = {chosen!r}: must be one of {', '.join(get_args(kinds))}")
    ranges.not_negative(adaptive=adaptive)
    b, *event = data.shape
    end_keys, noise_keys = per_example.split(key, b)
    if noise is None:
        noise = per_example.normal(noise_keys, tuple(event), data.dtype)
    elif noise.shape != data.shape:
        raise ValueError(f"noise of shape {noise.shape} for data of shape {data.shape}: they must be equal")
    dtype = precision(data.dtype)
    t, s = ends(jax.vmap(lambda key: jax.random.uniform(key, (3,), dtype))(end_keys))
    x = interpolate(path, data, noise, t)
    own: GuidedField = lambda x, t, y: average(x, t, t, y)  # noqa: E731
    field = own if velocity is None else velocity
    u = conditional_velocity(path, data, noise, t) if velocity is None else field(x, t, y)
    u = jax.lax.stop_gradient(u if guide is None else guide(average, x, t, y, u))
    length, instant = expand(s - t, x), expand(s == t, x)

    match identity:
        case "eulerian":
            direction = u if tangent == "conditional" else jax.lax.stop_gradient(field(x, t, y))
            along = (x, t), (direction.astype(x.dtype), jnp.ones_like(t))
            value, rate = jax.jvp(lambda x, t: average(x, t, s, y), *along)
            target = u + length * rate
        case "lagrangian":
            mean, rate = jax.jvp(lambda s: average(x, t, s, y), (s,), (jnp.ones_like(s),))
            value = mean + length * rate
            target = field(x + length * mean, s, y)
            if velocity is None or guide is not None:  # or else that of no length is u already
                target = jnp.where(instant == 1, u, target)
        case "semigroup":
            value = average(x, t, s, y)
            target = jnp.where(instant == 1, u, compose(bind(average, y))(x, t, s))
    loss = square_norm(per_example.check_shape(value, x) - jax.lax.stop_gradient(target), edge_weight)
    if weight is not None:
        loss = loss * weight(t).astype(data.dtype)
    mean_square = jax.lax.stop_gradient(loss) / max(1, data[0].size)
    return loss / (mean_square + 1e-3) ** adaptive
