"""Embeddings of many captions, computed once and cached on disk, a .npy file per array.

They depend on the captions, weights, tokenizer, network, length and dtype.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jaxflow.data.cached import filled
from jaxflow.digests import digest
from jaxflow.pretrained.folders import Folder
from jaxflow.pretrained.text import Embeddings, PretrainedText, TextEncoder

BLOCK = 256
DTYPES = ("float16", "float32")


def cached(
    text: TextEncoder, prompts: Sequence[str], folder: Folder, *, dtype: str = "float16"
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
    parts = [entry for part in text.parts for entry in _identity(part)]
    params = [part.params for part in text.parts]
    entry = filled(
        Path(folder) / digest((*parts, dtype, *prompts), params), partial(_write, text, prompts, dtype)
    )
    files = {name: entry / f"{name}.npy" for name in Embeddings._fields}
    return Embeddings(
        **{name: np.load(file, mmap_mode="r") for name, file in files.items() if file.is_file()}
    )


def _identity(text: PretrainedText) -> tuple[str, ...]:
    """What an encoder's features depend on, besides its parameters."""
    return repr(text.network), text.tokenizer.backend.to_str(), f"{text.max_length} {text.attend_padding}"


def _write(text: TextEncoder, prompts: Sequence[str], dtype: str, folder: Path) -> None:
    files: dict[str, np.ndarray] = {}
    for start in range(0, len(prompts), BLOCK):
        block = text.encode(prompts[start : start + BLOCK])
        for name, array in block._asdict().items():
            if array is not None:
                stored = _fit(array, name, dtype)
                if name not in files:
                    shape = (len(prompts), *array.shape[1:])
                    files[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", stored.dtype, shape)
                files[name][start : start + len(array)] = stored
    for file in files.values():
        file.flush()  # type: ignore[attr-defined]


def _fit(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    if array.dtype == bool:
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"dtype = {dtype!r}: {name} has values that are not finite in it; use float32")
    return stored
