"""Read images from files: each once, checked, hashed, and kept in memory if the total is small."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxflow import progress
from jaxflow.data.dataset import RESIDENT_BYTES
from jaxflow.data.pictures import read_picture
from jaxflow.places import Place

MOST_NAMED = 4
"""Damaged images that a message names."""
WORKERS = min(16, os.cpu_count() or 1)
"""Threads, each of which may hold a large image."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Random access to images, {"image": uint8 (size, size, 3), "label" or "caption"}."""

    files: tuple[Place, ...]
    said: tuple[dict[str, Any], ...]
    """Label or caption of each."""
    size: int
    pixels: UInt8[np.ndarray, "n size size 3"] | None
    """All images, if they fit in memory; otherwise each is read on access."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if self.pixels is not None:
            return {"image": self.pixels[position], **self.said[position]}
        return {"image": read_picture(self.files[position], self.size, self.size)[0], **self.said[position]}

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        if self.pixels is not None:
            return [self[position] for position in positions]
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(self.__getitem__, positions))


@dataclass(frozen=True, eq=False)
class Read:
    """The result of reading all files."""

    pixels: UInt8[np.ndarray, "n size size 3"] | None
    """If together they take no more than `RESIDENT_BYTES`."""
    enlarged: int
    """Images smaller than size x size."""
    digests: list[str]
    """SHA-256 of each file."""


def read_all(files: Sequence[Place], size: int) -> Read:
    """Read every file once.

    Raises:
        ValueError: some cannot be decoded; the message names the first of them.
    """
    keep = 3 * len(files) * size**2 <= RESIDENT_BYTES
    pixels = np.empty((len(files), size, size, 3), np.uint8) if keep else None
    enlarged, digests, errors = 0, [], []
    with ThreadPoolExecutor(WORKERS) as pool:
        results = pool.map(partial(_attempt, size=size, keep=keep), files)
        for i, result in enumerate(progress.over(results, "read images", unit="image", total=len(files))):
            if isinstance(result, ValueError):
                errors.append(result)
                continue
            image, small, digest = result
            enlarged += small
            digests.append(digest)
            if pixels is not None and image is not None:
                pixels[i] = image
    if errors:
        more = f" ({len(errors)} images in all)" if len(errors) > 1 else ""
        raise ValueError("; ".join(map(str, errors[:MOST_NAMED])) + more)
    return Read(pixels, enlarged, digests)


def _attempt(file: Place, size: int, keep: bool) -> tuple[np.ndarray | None, bool, str] | ValueError:
    """The image, released at once unless it is kept: results may have to wait for earlier ones."""
    try:
        image, small = read_picture(file, size, size)
    except ValueError as error:
        return error
    with file.open("rb") as stream:  # still in the page cache
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return image if keep else None, small, digest
