"""A page of what was read: images as the network will see them, with what is said of each."""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxflow.data.conditions import Classes
from jaxflow.data.datasets import Dataset

MOST, COLUMNS = 40, 8
"""Images on the page, and in a row."""
WIDTH, SIDE, LINE = 10.4, 1.2, 0.14
"""Of the page, of an image, and the height of a line of text, in inches."""
NOTE, CAPTION, LINES = 150, 22, 3
"""Characters in a line of a note and of a caption, and lines of a caption at most."""


def contact_sheet(dataset: Dataset, file: Path, notes: Sequence[str] = ()) -> None:
    """Write the page: up to 40 images, evenly spaced over the data set in its own order.

    Args:
        dataset: images with their classes or captions.
        file: PNG to write.
        notes: sentences for the head of the page.
    """
    total, (h, w, _) = len(dataset.source), dataset.image_shape
    shown = np.linspace(0, total - 1, min(total, MOST)).round().astype(int)
    examples = dataset.source.__getitems__(shown.tolist())
    captions = [_wrapped(_said(dataset, example)) for example in examples]
    head = "\n".join(line for note in notes for line in textwrap.wrap(note, NOTE))
    head_height = 0.5 + LINE * (head.count("\n") + 1)
    cell_height = SIDE + LINE * (max(caption.count("\n") for caption in captions) + 1) + 0.15
    rows = -(-len(examples) // COLUMNS)
    height = head_height + rows * cell_height
    figure = Figure(figsize=(WIDTH, height), dpi=150)
    title = f"{total:,} image{'s' * (total > 1)} of {h} x {w}" + f", {MOST} of them" * (total > MOST)
    figure.text(0.015, 1 - 0.12 / height, title, size=12, weight="bold", va="top")
    figure.text(0.015, 1 - 0.38 / height, head, size=8, color="0.3", va="top", parse_math=False)
    for i, (example, caption) in enumerate(zip(examples, captions, strict=True)):
        row, column = divmod(i, COLUMNS)
        bottom = height - head_height - row * cell_height - SIDE
        left = (column + 0.5) * WIDTH / COLUMNS - SIDE / 2
        ax = figure.add_axes((left / WIDTH, bottom / height, SIDE / WIDTH, SIDE / height))
        _show(ax, example["image"], caption)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # signs that the font lacks become boxes
        figure.savefig(file)


def _said(dataset: Dataset, example: dict) -> str:
    if isinstance(dataset.condition, Classes):
        return dataset.condition.names[example["label"]]
    caption = example["caption"]
    return caption.decode() if isinstance(caption, bytes) else caption


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, CAPTION, max_lines=LINES, placeholder=" ..."))


def _show(ax: Axes, image: np.ndarray, caption: str) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    ax.text(
        0.5,
        -0.04,
        caption,
        size=7,
        ha="center",
        va="top",
        linespacing=1.1,
        transform=ax.transAxes,
        parse_math=False,
    )
