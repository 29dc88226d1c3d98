r"""Classifier guidance against classifier-free guidance, from the same noise.

With the exact classifier p_t(y | x) of noisy points the two fields are equal, by Bayes' rule. A classifier of
clean data, log p_1(y | .), is wrong at t < 1: applied to E[data | x] it neglects the spread of the data about
their mean, and applied to x its gradient does not vanish at t = 0, where it is multiplied by infinity.

Source: "Building an Image Generator" (arXiv 2506.02070), classifier and classifier-free guidance.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import GRAY, INK, RED, lattice, page, plane, shade
from jaxflow import guidance, mixtures, paths, sampling, times

CAPTION = (
    "With the exact classifier of noisy points, classifier guidance (black) is classifier-free guidance "
    "(red) up to rounding; a classifier of clean data misleads if applied to the predicted data, and more so "
    "if applied to the noisy points (below: median distance)."
)
PATH = paths.Linear()
W, LABEL, STEPS, REACH = 2.0, 0, 100, 2.8


def mixture() -> mixtures.Mixture:
    """Three classes in the plane."""
    return mixtures.Mixture(
        weights=jnp.array([0.4, 0.35, 0.25]),
        means=jnp.array([[0.9, 0.7], [-1.2, 0.4], [0.3, -1.2]]),
        covariances=jnp.broadcast_to(0.3 * jnp.eye(2), (3, 2, 2)),
    )


def classifiers() -> dict[str, Callable]:
    """The exact one and two wrong ones, each (x, t, y) -> log p(y | x)."""
    law = mixture()

    def exact(x, t, y):
        return _of(mixtures.class_log_prob(law, PATH, x, t), y)

    def of_noisy(x, t, y):
        return exact(x, jnp.ones_like(t), y)

    def of_predicted(x, t, y):
        return of_noisy(mixtures.denoise(law, PATH, x, t), t, y)

    return {
        "exact classifier": exact,
        "clean-data classifier of predicted data": of_predicted,
        "clean-data classifier of noisy points": of_noisy,
    }


def _of(log_probs: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.take_along_axis(log_probs, y[:, None], axis=-1)[:, 0]


@jax.jit
def trajectories(noise: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """With classifier-free guidance, and with each classifier, (STEPS + 1, b, 2)."""
    law, grid = mixture(), times.uniform(STEPS)
    y, null = jnp.full(noise.shape[0], LABEL), jnp.array(3)

    def guided(x, t, y):
        return mixtures.velocity(law, PATH, x, t, y)

    def unguided(x, t):
        return mixtures.velocity(law, PATH, x, t)

    def walk(field):
        return sampling.sample_ode(field, noise, grid, trajectory=True)

    return walk(guidance.classifier_free(guided, y, null, W)), {
        name: walk(guidance.classifier(unguided, PATH, log_prob, y, W))
        for name, log_prob in classifiers().items()
    }


def draw() -> Figure:
    """A column per classifier: trajectories, and their distance at each time."""
    figure = page(5.3, CAPTION)
    axes = figure.subplots(2, 3, sharey="row", height_ratios=[2.6, 1])
    law = mixture()
    window = jnp.asarray(lattice(REACH, 160))
    ends = jnp.ones(len(window))
    data = np.asarray(mixtures.log_prob(law, PATH, window, ends, jnp.full(len(window), LABEL)))
    noise = jax.random.normal(jax.random.key(3), (400, 2))
    free, with_classifier = trajectories(noise)
    free = np.asarray(free)
    for name, (above, below) in zip(classifiers(), axes.T, strict=True):
        x = np.asarray(with_classifier[name])
        plane(above, REACH)
        above.set_title(name)
        shade(above, data, REACH)
        above.plot(*free[:, :25].transpose(2, 0, 1), color=RED, linewidth=2.2, alpha=0.4)
        above.plot(*x[:, :25].transpose(2, 0, 1), color=INK, linewidth=0.7)
        above.plot(*free[0, :25].T, ".", color=GRAY, markersize=5, markeredgewidth=0)
        apart = np.linalg.norm(x - free, axis=-1)
        below.semilogy(np.linspace(0, 1, STEPS + 1)[1:], np.median(apart, axis=1)[1:], color=INK, linewidth=1)
        below.set_xlabel("t")
    axes[1, 0].set_ylabel("distance")
    return figure
