r"""The path from noise to data: p_t(x | data), p_t(x | y) and p_t(x) of a labelled mixture.

Given one data point the path is N(alpha(t) data, beta(t)^2 I); its averages over the data of a class and over
all data are the other two. The ODE with the velocity of each row transports the same noise.

Source: "Building an Image Generator" (arXiv 2506.02070), conditional and marginal probability paths.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.mixture import mixture
from experiments.figures.style import INK, RED, lattice, page, plane, shade
from jaxflow import mixtures, paths, sampling, times

CAPTION = (
    "The path from noise to one data point, to the data of one class and to all data: the velocity of each "
    "row transports the same noise, so that the points are samples of the density in blue at every t; its "
    "regions hold 20, 40, 60, 80 and 95 % of the mass."
)
PATH = paths.Linear()
STEPS, REACH = 40, 2.9
SHOWN = (0, 10, 20, 30, 40)
"""Steps with a panel."""


def rows() -> dict[str, tuple[mixtures.Mixture, int]]:
    """A mixture and a label for each row; one past the last label is unconditional."""
    point = mixtures.Mixture(jnp.ones(1), jnp.array([[1.4, 1.0]]), jnp.zeros((1, 2, 2)))
    return {
        r"$p_t(x\,|\,\mathrm{data})$": (point, 1),
        r"$p_t(x\,|\,y)$": (mixture(), 0),
        "$p_t(x)$": (mixture(), 3),
    }


@jax.jit
def carry(law: mixtures.Mixture, noise: jax.Array, label: jax.Array) -> jax.Array:
    """The points at all steps, (STEPS + 1, b, 2)."""
    y = jnp.broadcast_to(label, noise.shape[:1])

    def field(x: jax.Array, t: jax.Array) -> jax.Array:
        return mixtures.velocity(law, PATH, x, t, y)

    return sampling.sample_ode(field, noise, times.uniform(STEPS), trajectory=True)


@jax.jit
def log_prob(law: mixtures.Mixture, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
    """Of the points x at each time of t, (n, b)."""
    y = jnp.broadcast_to(label, x.shape[:1])
    return jax.lax.map(lambda t: mixtures.log_prob(law, PATH, x, jnp.broadcast_to(t, x.shape[:1]), y), t)


def draw() -> Figure:
    """One row per distribution, one column per time."""
    figure = page(6.1, CAPTION)
    axes = figure.subplots(3, len(SHOWN), sharex=True, sharey=True)
    noise = jax.random.normal(jax.random.key(4), (250, 2))
    window, t = lattice(REACH, 160), jnp.array(SHOWN, jnp.float32) / STEPS
    for row, (name, (law, label)) in zip(axes, rows().items(), strict=True):
        x = np.asarray(carry(law, noise, jnp.array(label)))
        densities = np.asarray(log_prob(law, jnp.asarray(window), t, jnp.array(label)))
        row[0].set_ylabel(name, fontsize=12)
        for ax, step, density in zip(row, SHOWN, densities, strict=True):
            plane(ax, REACH)
            # p_1(x | data) is a point mass, without a density.
            if np.isfinite(density).all():
                shade(ax, density, REACH)
            ax.plot(*x[: step + 1, :8].transpose(2, 0, 1), color=RED, linewidth=0.7)
            ax.plot(*x[step].T, ".", color=INK, markersize=2, markeredgewidth=0)
            ax.plot(*x[step, :8].T, ".", color=RED, markersize=5, markeredgewidth=0)
    for ax, step in zip(axes[0], SHOWN, strict=True):
        ax.set_title(f"t = {step / STEPS:g}")
    return figure
