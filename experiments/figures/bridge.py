"""Circles to a checkerboard along straight lines, with the exact velocity of the bridge.

psi(noise, data, t) = (1 - t) noise + t data connects any two distributions. Lines between independent pairs
cross; the ODE of their mean velocity u_t(x) = E[data - noise | x_t = x] has the same marginals, and its
trajectories cannot cross.

Source: MIT 6.S184, lab 2; Albergo and Vanden-Eijnden 2209.15571.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import BLUE, INK, RED, page, plane
from jaxflow import mixtures, paths, sampling, times

CAPTION = (
    "Straight lines between independent points of two circles and a checkerboard (above) mix the circles; "
    "the ODE of their mean velocity (below) has the same density at all times, and no trajectories cross."
)
N, STEPS, REACH = 1500, 40, 2.4
SHOWN = (0, 10, 20, 30, 40)


def circles() -> mixtures.Mixture:
    """Two concentric circles of small isotropic Gaussians, equally dense on both."""
    counts, radii = (16, 32), (1.0, 2.0)
    angles = [2 * np.pi * np.arange(n) / n for n in counts]
    means = [r * np.stack([np.cos(a), np.sin(a)], axis=-1) for r, a in zip(radii, angles, strict=True)]
    return _round(np.concatenate(means), 0.12)


def checkerboard() -> mixtures.Mixture:
    """The eight dark squares of a 4 x 4 board of side 4, with nine Gaussians on each."""
    corners = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    inside = [((a + 0.5) / 3, (b + 0.5) / 3) for a in range(3) for b in range(3)]
    means = np.array(corners)[:, None] + np.array(inside)[None] - 2
    return _round(means.reshape(-1, 2), 0.12)


def _round(means: np.ndarray, deviation: float) -> mixtures.Mixture:
    k = len(means)
    covariances = jnp.broadcast_to(deviation**2 * jnp.eye(2), (k, 2, 2))
    return mixtures.Mixture(jnp.full(k, 1 / k), jnp.asarray(means, jnp.float32), covariances)


@jax.jit
def trajectories(noise: jax.Array) -> jax.Array:
    """Points of the ODE at all steps, (STEPS + 1, b, 2)."""
    source, target = circles(), checkerboard()

    def field(x: jax.Array, t: jax.Array) -> jax.Array:
        return mixtures.bridge_velocity(source, target, x, t)

    def carry(noise: jax.Array) -> jax.Array:
        return sampling.sample_ode(field, noise, times.uniform(STEPS), trajectory=True)

    # For 50 points at a time, all pairs of components fit into the cache.
    x = jax.lax.map(carry, noise.reshape(-1, 50, 2))
    return jnp.swapaxes(x, 0, 1).reshape(STEPS + 1, -1, 2)


def pairs(noise: jax.Array, data: jax.Array) -> jax.Array:
    """Points of independent pairs at all steps, (STEPS + 1, b, 2)."""

    def at(t: jax.Array) -> jax.Array:
        return paths.interpolate(paths.Straight(), data, noise, jnp.broadcast_to(t, noise.shape[:1]))

    return jax.vmap(at)(times.uniform(STEPS))


def draw() -> Figure:
    """A row for the pairs and one for the ODE, a column per time, with the trajectories of eight points."""
    figure = page(4.35, CAPTION)
    axes = figure.subplots(2, len(SHOWN), sharex=True, sharey=True)
    noise_key, data_key = jax.random.split(jax.random.key(0))
    noise, _ = mixtures.sample(noise_key, circles(), N)
    data, _ = mixtures.sample(data_key, checkerboard(), N)
    outer = np.linalg.norm(noise, axis=1) > 1.5
    rows = {"pairs": pairs(noise, data), "ODE": trajectories(noise)}
    for row, (name, x) in zip(axes, rows.items(), strict=True):
        x = np.asarray(x)
        row[0].set_ylabel(name)
        for ax, step in zip(row, SHOWN, strict=True):
            plane(ax, REACH)
            for some, color in ((outer, BLUE), (~outer, RED)):
                ax.plot(*x[step, some].T, ".", color=color, markersize=2, markeredgewidth=0)
            ax.plot(*x[: step + 1, :8].transpose(2, 0, 1), color=INK, linewidth=0.7)
            ax.plot(*x[step, :8].T, ".", color=INK, markersize=5, markeredgewidth=0)
    for ax, step in zip(axes[0], SHOWN, strict=True):
        ax.set_title(f"t = {step / STEPS:g}")
    return figure
