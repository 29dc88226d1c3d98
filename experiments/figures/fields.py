r"""The fields that guidance combines, at one time: u(x), u(x | y) and u~ = (1 - w) u(x) + w u(x | y).

Guidance goes from u(x) along the difference of the two, which on a Gaussian path is b grad log p_t(y | x): it
leads to where y is more likely, so the difference is drawn over the classifier.

Source: "Building an Image Generator" (arXiv 2506.02070), classifier-free guidance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.mixture import mixture
from experiments.figures.style import BLUE, INK, RED, lattice, page, plane, shade
from jaxflow import mixtures, paths
from jaxflow.guidance import classifier_free

CAPTION = (
    "At t = 0.5 the unguided velocity points to all data and the conditional one to the class at the upper "
    "right; their difference, in red, climbs the contours of p_t(y | x), 10 to 90 %, and guidance with w = 3 "
    "adds it three times to the unguided velocity."
)
PATH = paths.Linear()
T, W, LABEL, NULL = 0.5, 3.0, 0, 3
REACH, FINE, COARSE = 2.4, 120, 11
"""The window, its points for densities, and those with an arrow, on a side."""


class Fields(NamedTuple):
    """Velocities at the points x, all (b, 2)."""

    unguided: jax.Array
    conditional: jax.Array
    guided: jax.Array


def fields(x: jax.Array) -> Fields:
    """The three velocities at time `T`."""
    law, t, y = mixture(), jnp.full(len(x), T, x.dtype), jnp.full(len(x), LABEL)

    def field(x: jax.Array, t: jax.Array, y: jax.Array) -> jax.Array:
        return mixtures.velocity(law, PATH, x, t, y)

    guided = classifier_free(field, y, jnp.array(NULL), W)
    return Fields(field(x, t, jnp.full(len(x), NULL)), field(x, t, y), guided(x, t))


def draw() -> Figure:
    """A panel per field, over the density that it transports, and one for the difference."""
    figure = page(2.9, CAPTION)
    axes = figure.subplots(1, 4)
    window, points = jnp.asarray(lattice(REACH, FINE)), jnp.asarray(lattice(REACH, COARSE))
    law, t = mixture(), jnp.full(len(window), T, window.dtype)
    of = [
        np.asarray(mixtures.log_prob(law, PATH, window, t, jnp.full(len(window), y))) for y in (NULL, LABEL)
    ]
    classifier = np.exp(np.asarray(mixtures.class_log_prob(law, PATH, window, t))[:, LABEL])
    unguided, conditional, guided = fields(points)
    titles = ("$u(x)$", r"$u(x\,|\,y)$", r"$u(x\,|\,y) - u(x)$", rf"$\tilde u(x)$, w = {W:g}")
    arrows = (unguided, conditional, conditional - unguided, guided)
    for ax, title, arrow, density in zip(axes, titles, arrows, (of[0], of[1], None, of[1]), strict=True):
        plane(ax, REACH)
        ax.set_title(title)
        if density is None:
            axis = np.linspace(-REACH, REACH, FINE)
            levels = np.linspace(0.1, 0.9, 5)
            ax.contour(axis, axis, classifier.reshape(FINE, FINE), levels=levels, colors=BLUE, linewidths=0.7)
        else:
            shade(ax, density, REACH)
        color = RED if density is None else INK
        ax.quiver(*np.asarray(points).T, *np.asarray(arrow).T, color=color, scale=50, width=0.007)
    return figure
