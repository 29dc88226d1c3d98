"""Classes of images by the folders they are in."""

import posixpath
from collections.abc import Iterable

from jaxflow.data.codecs import Classes
from jaxflow.data.names import printable, shown

NAMES_OF_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
MOST_NAMED = 12
"""Classes that a message names."""


def classes_of(images: Iterable[str], test: set[str], noun: str = "image") -> tuple[Classes, dict[str, int]]:
    """The classes, and the number of each image's.

    The class of an image is its folder below the innermost folder with all images. Without such folders all
    images are of one class, not named after the folder, which may be moved.

    Args:
        images: their paths in the folder.
        test: those that are held out.
        noun: what they are, for the messages and as the name of the only class.

    Raises:
        ValueError: an image is next to the folders of classes, a class has no image to train on, the folders
            are splits, or a name is not one line of UTF-8.
    """
    images = list(images)
    common = posixpath.commonpath([posixpath.dirname(image) for image in images])
    start = len(common) + bool(common)
    deep = {image: image[start:].split("/")[0] for image in images if "/" in image[start:]}
    if not deep:
        return Classes((noun,)), dict.fromkeys(images, 0)
    numbers = {name: i for i, name in enumerate(sorted(set(deep.values())))}
    for image in images:
        if image not in deep:
            raise ValueError(
                f"{shown(image)} is next to the folders of the classes {_listed(numbers)}: move it into one"
                " of them"
            )
    _check(common, [*numbers], {name for image, name in deep.items() if image not in test}, noun)
    return Classes(tuple(numbers)), {image: numbers[name] for image, name in deep.items()}


def _check(common: str, classes: list[str], trained: set[str], noun: str) -> None:
    if {name.lower() for name in classes} <= NAMES_OF_SPLITS:
        raise ValueError(
            f"the folders {' and '.join(classes)} are splits, not classes: name one of them, such as"
            f" {shown(posixpath.join(common, classes[0]))}; part of it is held out as test"
        )
    for name in classes:
        if not printable(name):
            raise ValueError(
                f"the name '{shown(name)}' of a class folder is not one line of UTF-8: rename the folder"
            )
        if name not in trained:
            raise ValueError(
                f"all {noun}s of the class '{shown(name)}' are held out: add {noun}s to it, or lower hold_out"
            )


def _listed(names: Iterable[str]) -> str:
    names = [shown(name, 20) for name in names]
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
