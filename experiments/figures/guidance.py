r"""What classifier-free guidance samples: not the tilted density p(x) p(y | x)^w.

In one dimension the guided ODE is an increasing map T of the noise, so the density of its samples is known
without sampling: q(T(noise)) = N(noise; 0, 1) / T'(noise). At w = 0 it is p(x), at w = 1 p(x | y); for w > 1
its score is not the guided one.

Source: "Building an Image Generator" (arXiv 2506.02070), guidance; Chidambaram et al. 2409.13074.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import BLUE, GRAY, RED, page
from jaxflow import mixtures, paths, sampling, times
from jaxflow.guidance import classifier_free

CAPTION = (
    "Classifier-free guidance towards one of three classes (gray) samples the tilted density p(x) p(y | x)^w "
    "only at w = 0 and w = 1; for larger w it pushes an outer class past its data and narrows a middle one "
    "too much (var: variance)."
)
PATH = paths.Linear()
SCALES = (0.0, 1.0, 2.0, 4.0)
CLASSES = {"outer class": 2, "middle class": 1}
NOISE = LINE = np.linspace(-6, 6, 2001, dtype=np.float32)


def mixture() -> mixtures.Mixture:
    """Three classes on a line."""
    return mixtures.Mixture(
        weights=jnp.full(3, 1 / 3),
        means=jnp.array([[-1.0], [0.0], [1.0]]),
        covariances=jnp.full((3, 1, 1), 0.6),
    )


class Law(NamedTuple):
    """A density in one dimension."""

    x: np.ndarray
    density: np.ndarray

    def variance(self) -> float:
        """Variance, by the trapezoidal rule."""
        mean = np.trapezoid(self.density * self.x, self.x)
        return float(np.trapezoid(self.density * (self.x - mean) ** 2, self.x))


def guided(label: int) -> list[Law]:
    """Distribution of the guided samples for each w, by change of variables."""
    ends = np.asarray(_ends(jnp.array(label), jnp.array(SCALES)), float)
    normal = np.exp(-(NOISE.astype(float) ** 2) / 2) / np.sqrt(2 * np.pi)
    return [Law(x, normal / np.gradient(x, NOISE.astype(float))) for x in ends]


@jax.jit
def _ends(label: jax.Array, scales: jax.Array) -> jax.Array:
    """Samples of each w from all of NOISE, (scales, n)."""
    law, noise = mixture(), jnp.asarray(NOISE)[:, None]
    y, null = jnp.broadcast_to(label, len(NOISE)), jnp.array(3)

    def field(x: jax.Array, t: jax.Array, y: jax.Array) -> jax.Array:
        return mixtures.velocity(law, PATH, x, t, y)

    def carry(w: jax.Array) -> jax.Array:
        return sampling.sample_ode(classifier_free(field, y, null, w), noise, times.cosine(200))

    return jax.lax.map(carry, scales)[..., 0]


def tilted(label: int) -> list[Law]:
    """p(x) p(y | x)^w for each w, normalised."""
    all_data, classifier = exact()
    densities = [np.exp(all_data + w * classifier[:, label]) for w in SCALES]
    return [Law(LINE, density / np.trapezoid(density, LINE)) for density in densities]


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of p(x) and p(y | x) of the data along LINE, (n,) and (n, classes)."""
    x = jnp.asarray(LINE)
    of_data = mixture(), PATH, x[:, None], jnp.ones_like(x)
    return (
        np.asarray(mixtures.log_prob(*of_data), float),
        np.asarray(mixtures.class_log_prob(*of_data), float),
    )


def draw() -> Figure:
    """A row per class, a column per w."""
    figure = page(4.4, CAPTION)
    axes = figure.subplots(len(CLASSES), len(SCALES), sharex=True, sharey="row")
    all_data, classifier = exact()
    classes = np.exp(all_data[:, None] + classifier)
    for row, (name, label) in zip(axes, CLASSES.items(), strict=True):
        laws = guided(label), tilted(label)
        row[0].set_ylabel(name)
        for ax, samples, tilt in zip(row, *laws, strict=True):
            for one in classes.T:
                ax.fill_between(LINE, one, color=GRAY, alpha=0.25, linewidth=0)
            ax.plot(tilt.x, tilt.density, color=BLUE, linewidth=3, alpha=0.5)
            ax.plot(samples.x, samples.density, color=RED, linewidth=1.2)
            for height, kind, law, color in ((0.9, "guided", samples, RED), (0.78, "tilted", tilt, BLUE)):
                text = f"{kind}: var {law.variance():.2f}"
                ax.text(0.02, height, text, color=color, transform=ax.transAxes, fontsize=8)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
    for ax, w in zip(axes[0], SCALES, strict=True):
        ax.set_title(f"w = {w:g}")
    axes[0, 0].set(xlim=(-4, 4), ylim=(0, None))
    axes[1, 0].set_ylim(0, None)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    return figure
