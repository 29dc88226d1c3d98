"""Embeddings of many captions, computed once and cached on disk.

A folder holds one .npy file per array. Its name is a hash of everything that the arrays depend on (captions,
weights, tokenizer, network, length, dtype), so that no stale entry is ever read. It is written under a
temporary name and renamed atomically when complete.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxflow.pretrained.folders import Folder
from jaxflow.pretrained.text import Embeddings, PretrainedText

BLOCK = 256
DTYPES = ("float16", "float32")


def cached(
    text: PretrainedText, prompts: Sequence[str], folder: Folder, *, dtype: str = "float16"
) -> Embeddings:
    """`text.encode(prompts)` as memory-mapped arrays, computed by the first call.

    Args:
        text: the encoder.
        prompts: captions, in the order of the arrays.
        folder: parent folder of all caches; created if necessary.
        dtype: dtype on disk, float16 or float32.

    Raises:
        ValueError: dtype is neither, or overflows; `prompts` is empty, or a single string.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: must be {' or '.join(DTYPES)}")
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts = {prompts!r}: expected a list of at least one string")
    entry = Path(folder) / key_of(text, prompts, dtype)
    if not entry.is_dir():
        _write(text, prompts, entry, dtype)
    files = {name: entry / f"{name}.npy" for name in Embeddings._fields}
    return Embeddings(
        **{name: np.load(file, mmap_mode="r") for name, file in files.items() if file.is_file()}
    )


def key_of(text: PretrainedText, prompts: Sequence[str], dtype: str) -> str:
    """The hash, in hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (repr(text.network), text.tokenizer.backend.to_str(), text.max_length, dtype, *prompts):
        encoded = str(part).encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    for leaf in jax.tree.leaves(text.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:32]


def _write(text: PretrainedText, prompts: Sequence[str], entry: Path, dtype: str) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="unfinished-", dir=entry.parent))
    try:
        files: dict[str, np.ndarray] = {}
        for start in range(0, len(prompts), BLOCK):
            block = text.encode(prompts[start : start + BLOCK])
            for name, array in block._asdict().items():
                if array is not None:
                    stored = _fit(array, name, dtype)
                    if name not in files:
                        shape = (len(prompts), *array.shape[1:])
                        files[name] = np.lib.format.open_memmap(
                            temporary / f"{name}.npy", "w+", stored.dtype, shape
                        )
                    files[name][start : start + len(array)] = stored
        for file in files.values():
            file.flush()  # type: ignore[attr-defined]
        _publish(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, entry: Path) -> None:
    try:
        os.rename(temporary, entry)
    except OSError:
        # Another process was faster, and wrote the same arrays.
        if not entry.is_dir():
            raise


def _fit(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    if array.dtype == bool:
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"dtype = {dtype!r}: {name} has values that are not finite in it; use float32")
    return stored
