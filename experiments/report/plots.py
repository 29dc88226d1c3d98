"""Plots that the scripts write: pages of samples, and curves over w."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxflow.training.files import whole

MOST_COLUMNS = 10
"""Images of a label that a panel shows."""


def guidance_grid(panels: dict[float, np.ndarray], row_names: Sequence[str], file: Path) -> None:
    """The chapter's figure: a panel per w, a row per label.

    Args:
        panels: for each w, uint8 images (rows * n, h, w, c), row after row.
        row_names: name of each row.
        file: PNG to write.
    """
    mosaics = {w: mosaic(images, len(row_names)) for w, images in panels.items()}
    height, width = next(iter(mosaics.values())).shape[:2]
    panel_width = 3.2
    row_names = [textwrap.fill(name, 24) for name in row_names]
    margin = 0.5 if max(map(len, row_names)) < 10 else 1.8
    size = (panel_width * len(mosaics) + margin, panel_width * height / width + 0.4)
    figure = _figure(*size)
    axes = figure.subplots(1, len(mosaics), squeeze=False)[0]
    rows = len(row_names)
    for ax, (w, tiles) in zip(axes, mosaics.items(), strict=True):
        ax.imshow(tiles, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(f"w = {w:g}")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    axes[0].set_yticks((np.arange(rows) + 0.5) * height / rows - 0.5, row_names, parse_math=False)
    axes[0].tick_params(length=0)
    _save(figure, file)


def mosaic(images: np.ndarray, rows: int) -> np.ndarray:
    """Rows of images with white gaps between them, uint8 (h, w) or (h, w, c)."""
    n, h, w, c = images.shape
    per_row = n // rows
    columns = min(per_row, MOST_COLUMNS)
    gap = max(1, h // 8)
    tiles = images.reshape(rows, per_row, h, w, c)[:, :columns]
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    mosaic = tiles.swapaxes(1, 2).reshape(rows * (h + gap), columns * (w + gap), c)
    return mosaic[..., 0] if c == 1 else mosaic


def curves_over_w(
    table: dict[str, list[float]], real: dict[str, float], logarithmic: Sequence[str], file: Path
) -> None:
    """A curve over w for each column of `table`, with what real held-out data gets as a dashed line."""
    columns = [name for name in table if name != "w"]
    figure = _figure(9, 5)
    axes = figure.subplots(2, -(-len(columns) // 2)).ravel()
    for ax, name in zip(axes, columns, strict=False):
        ax.plot(table["w"], table[name], marker="o", markersize=3)
        if name in real:
            ax.axhline(real[name], linestyle="--", linewidth=1, color="gray", label="real data")
        if name in logarithmic:
            ax.set_yscale("log")
        ax.set_title(name)
        ax.set_xlabel("w")
    axes[0].legend(frameon=False)
    _save(figure, file)


def alignment_over_w(
    scales: Sequence[float], table: dict[str, list[dict[str, float]]], claims: Sequence[str], file: Path
) -> None:
    """A panel for each split, in it a curve over w for each kind of claim; in black that of all together.

    `binding` has none: its share is of few images, and of others at each w.
    """
    figure = _figure(9, 4)
    axes = figure.subplots(1, len(table), sharey=True, squeeze=False)[0]
    for ax, (split, rows) in zip(axes, table.items(), strict=True):
        for i, name in enumerate(name for name in claims if name != "binding"):
            style = {"color": "black", "linewidth": 2.5} if name == "all" else {"color": f"C{i}"}
            shares = [row.get(name, np.nan) for row in rows]
            ax.plot(scales, shares, marker="o", markersize=3, label=name, **style)
        ax.set_title(f"{split} combinations")
        ax.set_xlabel("w")
        ax.set_ylim(0, 1.02)
    axes[0].set_ylabel("share of captions that are true")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    _save(figure, file)


def rules_over_w(rows: Sequence[dict], real: dict[str, float], file: Path) -> None:
    """A curve over w for each guidance rule, a panel for each figure, real data as a dashed line.

    Args:
        rows: settings, each with its rule, w, sigma and figures.
        real: what real data get.
        file: PNG to write.
    """
    names = [name for name in rows[0] if name not in ("rule", "w", "sigma")]
    figure = _figure(10, 5.6)
    axes = figure.subplots(2, -(-len(names) // 2)).ravel()
    curves: dict[tuple[str, float], list[dict]] = {}
    for row in rows:
        curves.setdefault((row["rule"], row["sigma"]), []).append(row)
    several = len({sigma for _, sigma in curves}) > 1
    for ax, name in zip(axes, names, strict=False):
        for (rule, sigma), points in curves.items():
            label = f"{rule}, sigma {sigma:g}" if several else rule
            ax.plot(
                [p["w"] for p in points], [p[name] for p in points], marker="o", markersize=3, label=label
            )
        ax.axhline(real[name], linestyle="--", linewidth=1, color="gray", label="real data")
        if name.startswith("frechet"):
            ax.set_yscale("log")
        ax.set_title(name)
        ax.set_xlabel("w")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    _save(figure, file)


def _figure(width: float, height: float) -> Any:
    # Imported by whoever draws: it takes half a second.
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _save(figure: Any, file: Path) -> None:
    with whole(file) as stream:
        figure.savefig(stream, format="png")
