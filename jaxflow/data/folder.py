"""The user's own pictures as a data set: a folder of them, with classes or captions.

Classes are subfolders, one for each; what lies deeper in one belongs to it. Captions are texts in UTF-8,
NAME.txt beside each NAME.jpg. Without either, all pictures are of one class. Order and split depend on the
paths inside the folder only: `test` has the pictures whose SHA-256 of the path is a multiple of 10, so that
each keeps its side when others are added.
"""

import hashlib
import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from jaxflow.data.codecs import ONE_CLASS, Captions, Classes, vocabulary_of
from jaxflow.data.dataset import RESIDENT_BYTES, Dataset
from jaxflow.data.pictures import read_picture
from jaxflow.data.words import split as split_words

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are pictures, in lower or upper case."""
SPLITS = ("train", "test")
NAMES_OF_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
NOT_SHOWN = {"__MACOSX", "@eaDir"}
"""Folders in which systems keep notes of their own."""
MOST_NAMED = 12
"""Classes, or unreadable pictures, that a message names."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Random access to the pictures of a split, {"image": uint8 (size, size, 3), "label" or "caption"}."""

    files: tuple[Path, ...]
    said: tuple[dict[str, Any], ...]
    """Label or caption of each."""
    size: int
    pixels: UInt8[np.ndarray, "n size size 3"] | None
    """All images, where they are few enough to be kept; else each is read when asked for."""
    notes: tuple[str, ...]
    """What was read, and what was done to it, in plain sentences for the user."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if self.pixels is not None:
            return {"image": self.pixels[position], **self.said[position]}
        return {"image": read_picture(self.files[position], self.size)[0], **self.said[position]}

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        if self.pixels is not None:
            return [self[position] for position in positions]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.__getitem__, positions))


def open_folder(directory: Path, split: str, size: int) -> Dataset:
    """Read every picture of a split once; they are kept if together they take no more than `RESIDENT_BYTES`.

    Args:
        directory: the folder.
        split: `train` or `test`, a tenth of the pictures.
        size: side of the images in pixels.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        ValueError: a picture cannot be read, it is unclear what is said of one, a class has no picture to
            train on, or there is no such split or size; the message names it.
    """
    if size < 1:
        raise ValueError(f"image_size = {size}: at least 1 is needed")
    if split not in SPLITS:
        raise ValueError(
            f"data set 'folder' has no split {split!r}: it has train and test, whole, without slices"
        )
    found = _find(directory)
    names = [name for name in found.pictures if held_out(name) == (split == "test")]
    if not names:
        raise ValueError(
            f"data_dir = {directory}: none of its pictures ({len(found.pictures)}) is in the split {split!r};"
            " one in ten is in test, by its name: add pictures"
        )
    codec, said = _captions(directory, found) if found.captions else _classes(directory, found)
    files = tuple(found.pictures[name] for name in names)
    pixels, enlarged = _read_all(files, size)
    examples = tuple(said[name] for name in names)
    notes = (_describe(codec, examples), *_remarks(enlarged, size, found.others))
    return Dataset(Pictures(files, examples, size, pixels, notes), (size, size, 3), codec)


def held_out(name: str) -> bool:
    """Does the picture with this path inside the folder belong to `test`?"""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()) % 10 == 0


@dataclass(frozen=True)
class Found:
    """What is in a folder; pictures go by their paths in it, with slashes and composed accents."""

    pictures: dict[str, Path]
    captions: dict[str, Path]
    """Files of the captions, for the pictures that have one."""
    others: Counter[str]
    """How many files of each other suffix there are."""


def _find(directory: Path) -> Found:
    if not directory.is_dir():
        raise FileNotFoundError(
            f"data_dir = {directory}: there is no such folder; name the one with the pictures"
        )
    files = sorted((_name(file.relative_to(directory)), file) for file in _files(directory))
    pictures = {name: file for name, file in files if file.suffix.lower() in SUFFIXES}
    texts = {_stem(name): file for name, file in files if file.suffix.lower() == ".txt"}
    captions = {name: texts[_stem(name)] for name in pictures if _stem(name) in texts}
    used = {*pictures.values(), *captions.values()}
    others = Counter(file.suffix.lower() or "without suffix" for _, file in files if file not in used)
    if not pictures:
        seen = f", only {_counts(others)}" if others else ""
        raise FileNotFoundError(
            f"data_dir = {directory}: no picture is in it{seen}; read are {' '.join(SUFFIXES)}"
        )
    return Found(pictures, captions, others)


def _files(directory: Path) -> Iterator[Path]:
    """All files but hidden ones; links are followed, though not back to where they came from."""
    for here, folders, files in os.walk(directory, onerror=_fail, followlinks=True):
        above = {folder.resolve() for folder in (Path(here), *Path(here).parents)}
        shown = [name for name in folders if not name.startswith(".") and name not in NOT_SHOWN]
        folders[:] = [name for name in shown if Path(here, name).resolve() not in above]
        yield from (Path(here, name) for name in files if not name.startswith("."))


def _fail(error: OSError) -> None:
    raise error


def _name(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix())


def _is_text(name: str) -> bool:
    """Names of files may be any bytes."""
    return os.fsencode(name).decode(errors="replace") == name


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _captions(directory: Path, found: Found) -> tuple[Captions, dict[str, dict[str, Any]]]:
    without = [name for name in found.pictures if name not in found.captions]
    if without:
        raise ValueError(
            f"data_dir = {directory}: {len(without)} of {len(found.pictures)} pictures have no caption;"
            f" the first is {without[0]}: write {_stem(without[0])}.txt, or remove all captions"
        )
    captions = {name: _read_caption(file) for name, file in found.captions.items()}
    codec = vocabulary_of(caption for name, caption in captions.items() if not held_out(name))
    return codec, {name: {"caption": caption} for name, caption in captions.items()}


def _read_caption(file: Path) -> str:
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"caption {file} is not UTF-8: save it as UTF-8") from None
    caption = " ".join(unicodedata.normalize("NFC", text).split())
    if not caption:
        raise ValueError(f"caption {file} is empty: write one, or remove the file and its picture")
    return caption


def _classes(directory: Path, found: Found) -> tuple[Classes, dict[str, dict[str, Any]]]:
    """The class of each picture is its folder below the one that has them all."""
    common = posixpath.commonpath([PurePosixPath(name).parent for name in found.pictures])
    below = {name: PurePosixPath(name).relative_to(common).parts for name in found.pictures}
    deep = {name: parts[0] for name, parts in below.items() if len(parts) > 1}
    if not deep:
        return ONE_CLASS, {name: {"label": 0} for name in below}
    classes = {folder: i for i, folder in enumerate(sorted(set(deep.values())))}
    for name in below:
        if name not in deep:
            raise ValueError(
                f"data_dir = {directory}: {name} lies beside the folders of the classes"
                f" {', '.join([*classes][:MOST_NAMED])}: move it into one of them"
            )
    _check_classes(directory / common, [*classes], {deep[name] for name in deep if not held_out(name)})
    return Classes(tuple(classes)), {name: {"label": classes[folder]} for name, folder in deep.items()}


def _check_classes(directory: Path, classes: list[str], trained: set[str]) -> None:
    if {name.lower() for name in classes} <= NAMES_OF_SPLITS:
        raise ValueError(
            f"data_dir = {directory}: its folders {' and '.join(classes)} are splits, not classes; name one,"
            f" such as {directory / classes[0]}: a tenth of it is held out as test"
        )
    for name in classes:
        if not _is_text(name):
            raise ValueError(
                f"data_dir = {directory}: the name {os.fsencode(name)!r} of a folder is not UTF-8: rename it"
            )
        if name not in trained:
            raise ValueError(
                f"data_dir = {directory}: all pictures of the class {name!r} are in test, one in ten"
                " is, by its name; add pictures to it, or remove it"
            )


def _read_all(files: Sequence[Path], size: int) -> tuple[np.ndarray | None, int]:
    """The images, if they are few enough to be kept, and how many had to be enlarged."""
    keep = 3 * len(files) * size**2 <= RESIDENT_BYTES
    pixels = np.empty((len(files), size, size, 3), np.uint8) if keep else None
    enlarged, errors = 0, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_attempt, size=size), files)
        bar = tqdm(results, "read pictures", len(files), unit="picture", delay=1, leave=False)
        for i, result in enumerate(bar):
            if isinstance(result, ValueError):
                errors.append(result)
                continue
            image, small = result
            enlarged += small
            if pixels is not None:
                pixels[i] = image
    if errors:
        more = f" ({len(errors)} pictures in all)" if len(errors) > 1 else ""
        raise ValueError("; ".join(map(str, errors[:MOST_NAMED])) + more)
    return pixels, enlarged


def _attempt(file: Path, size: int) -> tuple[np.ndarray, bool] | ValueError:
    try:
        return read_picture(file, size)
    except ValueError as error:
        return error


def _describe(codec: Captions | Classes, examples: Sequence[dict[str, Any]]) -> str:
    if isinstance(codec, Captions):
        longer = sum(len(split_words(example["caption"])) > codec.length for example in examples)
        cut = f"; {longer} are longer and cut" if longer else ""
        return f"captions of up to {codec.length} words, {len(codec.words)} different ones{cut}"
    counts = Counter(codec.names[example["label"]] for example in examples)
    if len(codec.names) > MOST_NAMED:
        numbers = [counts[name] for name in codec.names]
        return f"{len(codec.names)} classes of {min(numbers)} to {max(numbers)} pictures"
    return "classes: " + ", ".join(f"{name} ({counts[name]})" for name in codec.names)


def _remarks(enlarged: int, size: int, others: Counter[str]) -> Iterator[str]:
    if enlarged:
        yield f"smaller than {size} x {size} and enlarged: {enlarged}"
    if others:
        yield f"other files, ignored: {_counts(others)}"


def _counts(others: Counter[str]) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in others.most_common(MOST_NAMED))
