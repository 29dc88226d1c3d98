"""Folders of small images."""

import itertools

import numpy as np
from PIL import Image

from jaxflow.data.folder import held_out

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(height=16, width=16):
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return pixels


def save(pixels, file, mode=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    (picture.convert(mode) if mode else picture).save(file, **options)


def named(count, suffix=".png", train=True):
    """The first names of a split."""
    names = (f"{i:03}{suffix}" for i in itertools.count())
    return list(itertools.islice((name for name in names if held_out(name) != train), count))


def plain(directory, names, shade=None):
    """A picture of one colour for each name, each of its own."""
    for i, name in enumerate(names):
        colour = np.array([i, 7, 200] if shade is None else shade, np.uint8)
        save(np.broadcast_to(colour, (8, 8, 3)).copy(), directory / name)


def classes(directory, per_class=12):
    names = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(per_class)]
    plain(directory, names)
    return names


def captioned(directory, count=60):
    names = [f"{i:02}.png" for i in range(count)]
    plain(directory, names)
    for i, name in enumerate(names):
        (directory / name).with_suffix(".txt").write_text(f"picture {'one' if i % 2 else 'zero'}\n")
    return names
