"""ODE against SDE: trajectories differ between sigmas, marginals do not.

    dX = [u(X, t) + sigma^2 / 2 grad log p_t(X)] dt + sigma dW

Source: "Building an Image Generator" (arXiv 2506.02070), sampling with SDEs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import BLUE, DENSITY, INK, RED, page
from jaxflow import mixtures, paths, times
from jaxflow.sampling import sample_ode, sample_sde

CAPTION = (
    "From the same noise at the top, the ODE and three SDEs follow ever rougher trajectories (one in red) "
    "through the same densities to the same histogram, whose Kolmogorov distance D from the exact "
    "distribution is as small as that of 20,000 independent samples."
)
PATH = paths.Linear()
SIGMAS = (0.0, 0.5, 1.0, 2.0)
N, STEPS, REACH = 20_000, 300, 3.2


def mixture() -> mixtures.Mixture:
    """Three classes on a line."""
    return mixtures.Mixture(
        weights=jnp.array([0.3, 0.25, 0.45]),
        means=jnp.array([[-1.8], [0.0], [1.5]]),
        covariances=jnp.array([[[0.12]], [[0.05]], [[0.2]]]),
    )


@jax.jit
def trajectories() -> jax.Array:
    """The points at all steps for each sigma, (sigmas, STEPS + 1, N)."""
    law = mixture()
    noise = jax.random.normal(jax.random.key(0), (N, 1))

    def field(x: jax.Array, t: jax.Array) -> jax.Array:
        return mixtures.velocity(law, PATH, x, t)

    # The last step adds no noise, so it must be short.
    grid = times.cosine(STEPS)
    ode = sample_ode(field, noise, grid, trajectory=True)

    def walk(sigma: jax.Array) -> jax.Array:
        return sample_sde(jax.random.key(1), field, PATH, noise, grid, sigma=sigma, trajectory=True)

    return jnp.concatenate([ode[None], jax.lax.map(walk, jnp.array(SIGMAS[1:]))])[..., 0]


@jax.jit
def density(x: jax.Array, t: jax.Array) -> jax.Array:
    """p_t(x) at all pairs, (times, points)."""
    law = mixture()
    at_times = jax.lax.map(lambda t: mixtures.log_prob(law, PATH, x[:, None], jnp.full(x.shape, t)), t)
    return jnp.exp(at_times)


def distance(x: np.ndarray) -> float:
    """Largest distance of the samples' distribution function from the exact one."""
    law = mixture()
    deviations = jnp.sqrt(law.covariances[:, 0, 0])
    ordered = jnp.sort(jnp.asarray(x))
    z = (ordered[:, None] - law.means[:, 0][None]) / deviations[None]
    exact = np.asarray(jax.scipy.stats.norm.cdf(z) @ law.weights)
    steps = np.arange(len(x) + 1) / len(x)
    return float(max(np.max(steps[1:] - exact), np.max(exact - steps[:-1])))


def draw() -> Figure:
    """A column per sigma: trajectories from noise at the top, histogram of their ends below."""
    figure = page(5.2, CAPTION)
    axes = figure.subplots(2, len(SIGMAS), sharex=True, sharey="row", height_ratios=[2, 1])
    line, t = np.linspace(-REACH, REACH, 300, dtype=np.float32), np.linspace(0, 1, 200, dtype=np.float32)
    p = np.asarray(density(jnp.asarray(line), jnp.asarray(t)))
    grid = np.asarray(times.cosine(STEPS))
    for sigma, x, (above, below) in zip(SIGMAS, np.asarray(trajectories()), axes.T, strict=True):
        above.set_title(rf"$\sigma$ = {sigma:g}" + (" (ODE)" if sigma == 0 else ""))
        above.contourf(line, t, p, levels=np.linspace(0.02, 0.9, 10), cmap=DENSITY, extend="max")
        above.plot(x[:, 1:9], grid, color=INK, linewidth=0.45)
        above.plot(x[:, 0], grid, color=RED, linewidth=1)
        below.hist(x[-1], bins=80, range=(-REACH, REACH), density=True, color="#c9ced6")
        below.plot(line, p[-1], color=BLUE, linewidth=1.2)
        below.text(0.03, 0.9, f"D = {distance(x[-1]):.3f}", transform=below.transAxes, fontsize=8)
        below.set_yticks([])
        below.spines["left"].set_visible(False)
        below.set_xlabel("x")
    axes[0, 0].set(xlim=(-REACH, REACH), ylim=(1, 0), ylabel="t")
    axes[1, 0].set_ylabel("density at t = 1")
    return figure
