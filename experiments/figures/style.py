"""One style for all figures: exact distributions in blue, samples in ink, comparisons in red."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, GRAY, BLUE, RED = "#20242b", "#8b929c", "#3b75af", "#c8473a"
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#dbe7f3", "#a9c7e3", "#6f9fce", BLUE])

matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.linewidth": 0.6,
        "axes.edgecolor": GRAY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": GRAY,
        "ytick.color": GRAY,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "mathtext.fontset": "cm",
    }
)


def page(height: float, caption: str) -> Figure:
    """A figure, 9 inches wide, with its caption below."""
    figure = Figure(figsize=(9, height), layout="constrained", dpi=115)
    figure.supxlabel(textwrap.fill(caption, 140), fontsize=8.5, color=INK, x=0.01, ha="left")
    return figure


def plane(ax: Axes, reach: float) -> None:
    """A square window of the plane, without ticks."""
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#d5d9de")


def lattice(reach: float, n: int) -> np.ndarray:
    """The points of an n x n lattice in the same window, (n * n, 2)."""
    axis = np.linspace(-reach, reach, n, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def shade(ax: Axes, log_prob: np.ndarray, reach: float) -> None:
    """A density on the lattice, as nested regions of highest density with 95, 80, ... % of its mass."""
    density = np.exp(log_prob - log_prob.max())
    falling = np.sort(density)[::-1]
    held = np.cumsum(falling) / falling.sum()
    levels = [falling[np.searchsorted(held, share)] for share in (0.95, 0.8, 0.6, 0.4, 0.2)]
    n = round(len(density) ** 0.5)
    window = np.linspace(-reach, reach, n)
    ax.contourf(window, window, density.reshape(n, n), levels=[*levels, 1.01], cmap=DENSITY)
