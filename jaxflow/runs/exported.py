"""Parameters and their configuration as one safetensors file, with the checksum that the format lacks.

A tensor is named by its path in the tree, `block_0/attention/kernel`. The metadata have one entry, `jaxflow`:
JSON of the `config`, and of a `sha256` over it and over name, type, shape and bytes of every tensor. What is
read is bit-identical to what was written, or rejected. Nothing in such a file can run code.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxflow.places import Place, bucket_errors, filesystem
from jaxflow.training.files import atomic_write
from jaxflow.training.step import Params

ENTRY = "jaxflow"
"""The only entry: several are written in random order, and files of the same content would differ."""


def write(file: Place, params: Params, config: dict[str, Any]) -> None:
    """Write parameters and configuration; whatever interrupts it, `file` is complete or unchanged.

    Args:
        file: replaced if it exists.
        params: nested dictionaries of arrays, as of a Flax module.
        config: serialisable as JSON.

    Raises:
        ValueError: a name in `params` has a slash.
        OSError: the file cannot be written.
    """
    # In C order: safetensors writes the memory as it is, whatever the strides.
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(params).items()}
    with atomic_write(file) as stream:
        stream.write(save(tensors, {ENTRY: _entry(tensors, config)}))


def read(file: Place) -> tuple[Params, dict[str, Any]]:
    """Parameters, as nested dictionaries of NumPy arrays, and configuration.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it was not written by `write`, or was changed since.
    """
    tensors, metadata = _open(file)
    if ENTRY not in metadata:
        raise ValueError(f"{file} has no metadata {ENTRY!r}: it is damaged, or not exported by jaxflow")
    try:
        config = json.loads(metadata[ENTRY])["config"]
        entry = _entry(tensors, config)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: no configuration ({error!r}); copy it again") from None
    if metadata[ENTRY] != entry:
        raise ValueError(f"{file} is damaged: its SHA-256 is not that of its content; copy it again")
    try:
        return traverse_util.unflatten_dict(tensors, sep="/"), config
    except IndexError:  # a tensor cannot have others below it
        raise ValueError(f"{file} is damaged: the names of its tensors contradict each other") from None


def is_exported(file: Place) -> bool:
    """Whether the file, intact or not, is one of `write`."""
    try:
        with _local(file) as path, safe_open(path, framework="numpy") as opened:
            return ENTRY in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False


def check(file: Place, params: Params, like: Params) -> None:
    """Check that parameters fit a network.

    Args:
        file: where they were read.
        params: as read.
        like: those of the network; may be abstract.

    Raises:
        ValueError: one is missing, unexpected, or of another shape or type; the message names it.
    """
    stored, expected = _described(params), _described(like)
    for name in sorted(stored.keys() | expected.keys()):
        if stored.get(name) != expected.get(name):
            raise ValueError(
                f"{file} was written for another network or by another version of jaxflow: {name} is"
                f" {stored.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            )


@contextmanager
def _local(file: Place) -> Iterator[Path]:
    """The file, or a copy of an object: `safe_open` reads files of this machine."""
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="jaxflow-") as folder, bucket_errors(file):
        copy = Path(folder) / "model.safetensors"
        filesystem().get_file(str(file), copy)
        yield copy


def _open(file: Place) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with _local(file) as path, safe_open(path, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file: {error}; copy it again") from None


def _entry(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> str:
    described = [[name, str(tensor.dtype), tensor.shape] for name, tensor in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps([config, described]).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return json.dumps({"config": config, "sha256": digest.hexdigest()})


def _named(params: Params) -> dict[str, Any]:
    paths = traverse_util.flatten_dict(params)
    for part in (part for path in paths for part in path):
        if "/" in part:
            raise ValueError(f"params: the name {part!r} has a slash, which separates names")
    return {"/".join(path): leaf for path, leaf in paths.items()}


def _described(params: Params) -> dict[str, str]:
    return {name: f"{leaf.dtype}{[*leaf.shape]}" for name, leaf in _named(params).items()}
