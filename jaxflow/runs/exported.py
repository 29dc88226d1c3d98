"""Parameters and their configuration as one safetensors file, with the checksum that the format lacks.

A tensor has the names on the way to it, `block_0/attention/kernel`. The metadata have one entry, `jaxflow`:
JSON of the `config`, and of a `sha256` over it and over name, type, shape and bytes of every tensor. So what
is read is what was written, bit for bit, or it is refused. Nothing in such a file can run code.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxflow.training.files import whole
from jaxflow.training.step import Params

ENTRY = "jaxflow"
"""The only entry: several are written in an order of chance, and files of the same content would differ."""


def write(file: Path, params: Params, config: dict[str, Any]) -> None:
    """Write parameters and configuration; whatever interrupts it, `file` is whole or as it was.

    Args:
        file: replaced if it is there.
        params: nested dictionaries of arrays, as of a Flax module.
        config: what JSON can hold.

    Raises:
        ValueError: a name in `params` has a slash.
        OSError: the file cannot be written.
    """
    # In C order: safetensors writes the memory as it lies, whatever the strides.
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(params).items()}
    with whole(file) as stream:
        stream.write(save(tensors, {ENTRY: _entry(tensors, config)}))


def read(file: Path) -> tuple[Params, dict[str, Any]]:
    """Parameters, as nested dictionaries of NumPy arrays, and configuration.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it was not written by `write`, or is not as it was written.
    """
    tensors, metadata = _open(file)
    if ENTRY not in metadata:
        raise ValueError(f"{file} has no metadata {ENTRY!r}: it is damaged, or no file of experiments.export")
    try:
        config = json.loads(metadata[ENTRY])["config"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: no configuration ({error!r}); copy it anew") from None
    if metadata[ENTRY] != _entry(tensors, config):
        raise ValueError(f"{file} is damaged: its SHA-256 is not that of its content; copy it anew")
    return traverse_util.unflatten_dict(tensors, sep="/"), config


def check(file: Path, params: Params, like: Params) -> None:
    """Refuse parameters that are not those of a network.

    Args:
        file: where they are from.
        params: as read.
        like: those of the network; may be abstract.

    Raises:
        ValueError: one is missing, left over, or of another shape or type; the message names it.
    """
    stored, asked = _described(params), _described(like)
    for name in sorted(stored.keys() | asked.keys()):
        if stored.get(name) != asked.get(name):
            raise ValueError(
                f"{file} is of another network, or of another version of jaxflow: {name} is"
                f" {stored.get(name, 'not there')} and should be {asked.get(name, 'not there')}"
            )


def _open(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{file} ({file.stat().st_size} bytes) is not a whole safetensors file: {error}; copy it anew"
        ) from None


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
            raise ValueError(f"params: the name {part!r} has a slash, which stands between names")
    return {"/".join(path): leaf for path, leaf in paths.items()}


def _described(params: Params) -> dict[str, str]:
    return {name: f"{leaf.dtype}{[*leaf.shape]}" for name, leaf in _named(params).items()}
