"""Read images or clips from files: each once, checked, hashed, and kept in memory if the total is small."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxflow import progress
from jaxflow.data.dataset import RESIDENT_BYTES
from jaxflow.places import Place

MOST_NAMED = 4
"""Damaged files that a message names."""
WORKERS = min(16, os.cpu_count() or 1)
"""Threads, each of which may hold a large image."""

Reader = Callable[[Place], tuple[UInt8[np.ndarray, "..."], tuple[str, ...]]]
"""Decodes a file, and says what it changed, in words that are the same for all files."""


@dataclass(frozen=True, eq=False)
class Files:
    """Random access to decoded files, {"image": uint8 array, "label" or "caption"}."""

    files: tuple[Place, ...]
    said: tuple[dict[str, Any], ...]
    """Label or caption of each."""
    read: Reader
    pixels: UInt8[np.ndarray, "n ..."] | None
    """All of them, if they fit in memory; otherwise each is read on access."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if self.pixels is not None:
            return {"image": self.pixels[position], **self.said[position]}
        return {"image": self.read(self.files[position])[0], **self.said[position]}

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        if self.pixels is not None:
            return [self[position] for position in positions]
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(self.__getitem__, positions))


@dataclass(frozen=True, eq=False)
class Read:
    """The result of reading all files."""

    pixels: UInt8[np.ndarray, "n ..."] | None
    """If together they take no more than `RESIDENT_BYTES`."""
    changes: Counter[str]
    """What the reader changed, and in how many files."""
    digests: list[str]
    """SHA-256 of each file."""


def read_all(files: Sequence[Place], read: Reader, shape: tuple[int, ...], noun: str) -> Read:
    """Read every file once.

    Args:
        files: to read.
        read: decodes one.
        shape: of each once decoded.
        noun: what they are, for messages.

    Raises:
        ValueError: some cannot be decoded; the message names the first of them.
    """
    keep = len(files) * int(np.prod(shape)) <= RESIDENT_BYTES
    pixels = np.empty((len(files), *shape), np.uint8) if keep else None
    changes, digests, errors = Counter[str](), [], []
    with ThreadPoolExecutor(WORKERS) as pool:
        results = pool.map(partial(_attempt, read=read, keep=keep), files)
        for i, result in enumerate(progress.over(results, f"read {noun}s", unit=noun, total=len(files))):
            if isinstance(result, ValueError):
                errors.append(result)
                continue
            image, changed, digest = result
            changes.update(changed)
            digests.append(digest)
            if pixels is not None and image is not None:
                pixels[i] = image
    if errors:
        more = f" ({len(errors)} {noun}s in all)" if len(errors) > 1 else ""
        raise ValueError("; ".join(map(str, errors[:MOST_NAMED])) + more)
    return Read(pixels, changes, digests)


def _attempt(
    file: Place, read: Reader, keep: bool
) -> tuple[np.ndarray | None, tuple[str, ...], str] | ValueError:
    """The image, released at once unless it is kept: results may have to wait for earlier ones."""
    try:
        image, changed = read(file)
    except ValueError as error:
        return error
    with file.open("rb") as stream:  # still in the page cache
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return image if keep else None, changed, digest
