"""Your own images as a data set: a folder of them, with classes or captions.

Classes are subfolders, one for each; what is deeper in one belongs to it. Captions are in files next to the
images (see `sidecars`). Without either, all images are of one class. Order and split depend on the paths
inside the folder only: `test` has the images for which the SHA-256 of the path, as a number in [0, 1), is
below `hold_out`, so that images keep their split when others are added.
"""

import hashlib
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxflow.data.class_folders import MOST_NAMED, classes_of
from jaxflow.data.codecs import Captions, Classes, vocabulary_of
from jaxflow.data.dataset import Dataset
from jaxflow.data.names import shown
from jaxflow.data.pictures import read_picture
from jaxflow.data.reading import Files, Reader, read_all
from jaxflow.data.sidecars import KINDS, Sidecars, read_captions
from jaxflow.data.walk import Walked, walk
from jaxflow.data.words import split as split_words
from jaxflow.places import Place

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are images, in lower or upper case."""
SPLITS = ("train", "test")
HOLD_OUT = 0.1
"""Share of the images that is held out as `test`."""
MOST_SIZE = 4096
"""Side of an image: 48 MiB."""


@dataclass(frozen=True)
class Kind:
    """What a folder holds: images, or clips."""

    noun: str
    """`image` or `clip`, for messages."""
    dataset: str
    """Name of such a data set."""
    suffixes: tuple[str, ...]
    shape: tuple[int, ...]
    """Of each once decoded."""
    read: Reader
    settings: tuple[Any, ...] = ()
    """What else `read` depends on."""


def open_folder(directory: Place, split: str, size: int, hold_out: float | int = HOLD_OUT) -> Dataset:
    """Read every image of a split once; they are kept if together they take no more than `RESIDENT_BYTES`.

    Args:
        directory: the folder.
        split: `train` or `test`.
        size: side of the images in pixels, 1 to 4096.
        hold_out: share of the images in `test`, at least 0 and below 1; 0 to train on all.

    Raises:
        OSError: there is no such folder, or no image in it, or it cannot be read.
        ValueError: an image or caption cannot be read, an image's class or caption is ambiguous, a class has
            no image to train on, or there is no such split or size; the message names it.
    """
    if not 1 <= size <= MOST_SIZE:
        raise ValueError(f"image_size = {size}: must be from 1 to {MOST_SIZE}")
    shape = (size, size, 3)
    return open_files(directory, split, hold_out, Kind("image", "folder", SUFFIXES, shape, _reader(size)))


def open_files(directory: Place, split: str, hold_out: float | int, kind: Kind) -> Dataset:
    """Read every file of a kind and of a split once; the arguments and errors are those of `open_folder`."""
    _check(split, hold_out, kind)
    found = _find(directory, kind)
    test = {name for name in found.items if held_out(name, hold_out)}
    names = [name for name in found.items if (name in test) == (split == "test")]
    if not names:
        raise ValueError(
            f"data_dir = {shown(directory)}: none of {len(found.items)} {kind.noun}s is in the split"
            f" {split!r}, chosen by hashes of their paths with hold_out = {hold_out}: add {kind.noun}s, or"
            " set hold_out (0 to train on all)"
        )
    try:
        codec, said = _conditions(found, test, kind)
    except ValueError as error:
        raise ValueError(f"data_dir = {shown(directory)}: {error}") from None
    files, examples = tuple(found.items[name] for name in names), tuple(said[name] for name in names)
    read = read_all(files, kind.read, kind.shape, kind.noun)
    trained = len(found.items) - len(test)
    notes = (
        f"{trained:,} {kind.noun}s to train on, {len(test):,} held out as test (hold_out = {hold_out})",
        _describe(codec, examples, kind),
        *(f"{change}: {number}" for change, number in sorted(read.changes.items())),
        *_remarks(found),
    )
    content = [
        (name, digest, said[name].get("caption")) for name, digest in zip(names, read.digests, strict=True)
    ]
    identity = hashlib.sha256(json.dumps([*content, *kind.settings]).encode()).hexdigest()
    return Dataset(Files(files, examples, kind.read, read.pixels), kind.shape, codec, notes, identity)


def held_out(name: str, share: float | int = HOLD_OUT) -> bool:
    """Whether the image with this path inside the folder belongs to `test`."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) < share * 2**48


def _reader(size: int) -> Reader:
    enlarged = (f"smaller than {size} x {size} and enlarged",)

    def read(file: Place) -> tuple[np.ndarray, tuple[str, ...]]:
        image, small = read_picture(file, size, size)
        return image, enlarged if small else ()

    return read


def _check(split: str, hold_out: float | int, kind: Kind) -> None:
    if split not in SPLITS:
        raise ValueError(
            f"split {split!r} of data set {kind.dataset!r}: must be train or test, without slices"
        )
    if not 0 <= hold_out < 1:
        raise ValueError(f"hold_out = {hold_out!r}: must be at least 0 and below 1")
    if split == "test" and not hold_out:
        raise ValueError(f"hold_out = 0: all {kind.noun}s are trained on, and the split 'test' is empty")


@dataclass(frozen=True)
class Found:
    """The contents of a folder, named by their paths in it, with slashes and composed accents."""

    items: dict[str, Place]
    """Images or clips."""
    sidecars: Sidecars
    others: Counter[str]
    """Number of other files, by suffix."""
    notes: tuple[str, ...]
    """What was skipped."""


def _find(directory: Place, kind: Kind) -> Found:
    if not directory.is_dir():
        raise FileNotFoundError(
            f"data_dir = {shown(directory)}: there is no such folder; name the one with the {kind.noun}s"
        )
    walked = walk(directory)
    items = {name: file for name, file in walked.files.items() if _suffix(name) in kind.suffixes}
    try:
        sidecars = read_captions(items, walked.files, kind.noun)
    except ValueError as error:
        raise ValueError(f"data_dir = {shown(directory)}: {error}") from None
    others = Counter(
        _suffix(name) or "without suffix"
        for name in walked.files
        if name not in items and name not in sidecars.files
    )
    if not items:
        seen = f", only {_counts(others)}" if others else ""
        raise FileNotFoundError(
            f"data_dir = {shown(directory)}: no {kind.noun} is in it{seen}; supported are"
            f" {' '.join(kind.suffixes)}"
        )
    return Found(items, sidecars, others, tuple(_skipped(walked)))


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _skipped(walked: Walked) -> Iterator[str]:
    for kind, names in (("folders of runs", walked.runs), ("empty folders", walked.empty)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{kind}, skipped: {shown(names[0])}{more}"
    if walked.links:
        yield f"links to folders that are read already, skipped: {walked.links}"


def _conditions(
    found: Found, test: set[str], kind: Kind
) -> tuple[Captions | Classes, dict[str, dict[str, Any]]]:
    """The codec of what is trained on, and the label or caption of all."""
    captions = found.sidecars.captions
    if not captions:
        classes, numbers = classes_of(found.items, test, kind.noun)
        return classes, {name: {"label": number} for name, number in numbers.items()}
    without = [name for name in found.items if name not in captions]
    if without:
        raise ValueError(
            f"{len(without)} of {len(found.items)} {kind.noun}s have no caption; the first is"
            f" {shown(without[0])}: write it, or remove all captions"
        )
    codec = vocabulary_of(caption for name, caption in captions.items() if name not in test)
    return codec, {name: {"caption": caption} for name, caption in captions.items()}


def _describe(codec: Captions | Classes, examples: Sequence[dict[str, Any]], kind: Kind) -> str:
    if isinstance(codec, Captions):
        longer = sum(len(split_words(example["caption"])) > codec.length for example in examples)
        cut = f"; {longer} are longer and truncated" if longer else ""
        return f"captions of up to {codec.length} words, {len(codec.words)} different words{cut}"
    counts = Counter(codec.names[example["label"]] for example in examples)
    if len(codec.names) > MOST_NAMED:
        numbers = [counts[name] for name in codec.names]
        return f"{len(codec.names)} classes of {min(numbers)} to {max(numbers)} {kind.noun}s"
    return "classes: " + ", ".join(f"{shown(name, 40)} ({counts[name]})" for name in codec.names)


def _remarks(found: Found) -> Iterator[str]:
    if found.others:
        hint = "" if found.sidecars.captions else f" (captions are read from {KINDS})"
        yield f"other files, ignored: {_counts(found.others)}{hint}"
    yield from found.sidecars.notes
    yield from found.notes


def _counts(others: Counter[str]) -> str:
    named = [f"{number} {shown(suffix, 20)}" for suffix, number in others.most_common(MOST_NAMED)]
    return ", ".join(named) + (", ..." if len(others) > MOST_NAMED else "")
