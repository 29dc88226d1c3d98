"""Embeddings of many captions, computed once and kept on disk.

A folder named after a hash of everything that they depend on (captions, weights, tokenizer, network, length,
type) holds one .npy file per array. It is written aside and renamed when it is whole; what depends on
anything else has another name, so that nothing stale is read.
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
    """`text.encode(prompts)` as memory-mapped arrays, which are computed at the first call.

    Args:
        text: the encoder.
        prompts: captions, in the order of the arrays.
        folder: of all caches; made if it does not exist.
        dtype: of the numbers on disk, float16 or float32.

    Raises:
        ValueError: no such dtype, or a number is too large for it; `prompts` is empty, or one string.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: there are {', '.join(DTYPES)}")
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts = {prompts!r}: a list of at least one string is needed")
    whole = Path(folder) / key_of(text, prompts, dtype)
    if not whole.is_dir():
        _write(text, prompts, whole, dtype)
    files = {name: whole / f"{name}.npy" for name in Embeddings._fields}
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


def _write(text: PretrainedText, prompts: Sequence[str], whole: Path, dtype: str) -> None:
    whole.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="unfinished-", dir=whole.parent))
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
                            aside / f"{name}.npy", "w+", stored.dtype, shape
                        )
                    files[name][start : start + len(array)] = stored
        for file in files.values():
            file.flush()  # type: ignore[attr-defined]
        _publish(aside, whole)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(aside: Path, whole: Path) -> None:
    try:
        os.rename(aside, whole)
    except OSError:
        # Another process was first, with the same arrays.
        if not whole.is_dir():
            raise


def _fit(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    if array.dtype == bool:
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"{name} has numbers that are not finite in dtype = {dtype!r}: allowed is float32 as well"
        )
    return stored
