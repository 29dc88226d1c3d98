"""A page of the data as read: images as the network will see them, each with its class or caption."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.plots import save
from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.data.names import shown, wrapped
from jaxflow.places import Place

MOST, COLUMNS = 40, 8
"""Images per page, and per row."""
SIDE, GAP, LINE = 1.2, 0.1, 0.14
"""Side of an image, gap between two, and height of a line of text, in inches."""
WIDTH = COLUMNS * (SIDE + GAP) + GAP
NOTE, CAPTION, LINES = 150, 22, 3
"""Columns in a line of a note and of a caption, and most lines of a caption."""


def contact_sheet(dataset: Dataset, file: Place, notes: Sequence[str] = ()) -> None:
    """Write the page: up to 40 images, evenly spaced over the data set in its own order.

    Args:
        dataset: images with their classes or captions.
        file: PNG to write.
        notes: sentences for the head of the page.
    """
    total = len(dataset)
    positions = np.linspace(0, total - 1, min(total, MOST)).round().astype(int)
    examples = dataset.examples(positions.tolist())
    captions = [_wrapped(_condition(dataset, example)) for example in examples]
    lines = [line for note in notes for line in wrapped(note, NOTE)]
    top = 0.5 + LINE * len(lines)
    row_height = SIDE + LINE * (2 + max(caption.count("\n") for caption in captions))
    height = top + row_height * -(-len(examples) // COLUMNS)
    figure = Figure(figsize=(WIDTH, height), dpi=150)
    _write(figure, 0.12, _title(dataset), size=12, weight="bold")
    _write(figure, 0.38, "\n".join(lines), size=8, color="0.3")
    for i, (example, caption) in enumerate(zip(examples, captions, strict=True)):
        row, column = divmod(i, COLUMNS)
        left, bottom = GAP + column * (SIDE + GAP), height - top - row * row_height - SIDE
        ax = figure.add_axes((left / WIDTH, bottom / height, SIDE / WIDTH, SIDE / height))
        _show(ax, _still(example["image"]), caption)
    save(figure, file)


def _title(dataset: Dataset) -> str:
    total, (*frames, h, w, _) = len(dataset), dataset.image_shape
    kind = f"clip{'s' * (total > 1)} of {frames[0]} frames" if frames else f"image{'s' * (total > 1)}"
    title = f"{total:,} {kind} of {h} x {w}"
    return f"{title}, {MOST} shown" if total > MOST else title


def _write(figure: Figure, down: float, text: str, **style: Any) -> None:
    height = figure.get_size_inches()[1]
    figure.text(GAP / WIDTH, 1 - down / height, text, va="top", parse_math=False, **style)


def _condition(dataset: Dataset, example: dict) -> str:
    if isinstance(dataset.codec, Classes):
        return dataset.codec.names[example["label"]]
    return example["caption"]


def _wrapped(text: str) -> str:
    text = shown(" ".join(text.split()), 4 * CAPTION * LINES)
    return "\n".join(wrapped(text, CAPTION, LINES))


def _still(image: np.ndarray) -> np.ndarray:
    """An image; of a clip four of its frames, as quarters."""
    if image.ndim == 3:
        return image
    frames = image[np.linspace(0, len(image) - 1, 4).round().astype(int)]
    return np.concatenate([np.concatenate(list(frames[i : i + 2]), axis=1) for i in (0, 2)])


def _show(ax: Axes, image: np.ndarray, caption: str) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    style: dict[str, Any] = {"size": 7, "ha": "center", "va": "top", "linespacing": 1.1}
    ax.text(0.5, -0.04, caption, transform=ax.transAxes, parse_math=False, **style)
