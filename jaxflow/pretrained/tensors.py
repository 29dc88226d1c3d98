"""Load the weights in a folder as parameters of a Flax module: one safetensors file, or several and an index.

The module determines the names and shapes of its parameters, and each is looked up by its name in the file,
where the axes of Flax's `kernel` are in a different order:

    layer                         Flax              torch
    dense                         (in, out)         (out, in)
    dense, of patches             (h w in, out)     (out, in, h, w), also for 1 x 1
    convolution in one axis       (w, in, out)      (out, in, w)
    convolution in two axes       (h, w, in, out)   (out, in, h, w)

Leading axes of length 1, such as those of a table of positions (1, n, c), are dropped where the module has
none.
Transposed convolutions, which torch stores as (in, out, h, w), are not supported.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from jaxflow.pretrained.folders import read_json
from jaxflow.ranges import quoted

FILES = (
    *("model.safetensors", "model.fp16.safetensors"),
    *("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "ae.safetensors"),
)
INDICES = (
    *("model.safetensors.index.json", "model.safetensors.index.fp16.json"),
    "diffusion_pytorch_model.safetensors.index.json",
)
FLOATS = ("F64", "F32", "F16", "BF16")
KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}
"""The axis of torch's kernel for each axis of Flax's, by the number of axes."""


class Part(NamedTuple):
    """What a parameter takes of a tensor, along its first axis."""

    key: str
    number: int = 0
    """Of one of `of` equal parts."""
    of: int = 1
    swapped: bool = False
    """Whether the second half comes first."""


class Stored(NamedTuple):
    """The parameters of a module in files, whose names were checked and whose numbers were not read yet."""

    shapes: Any
    """Shapes of the parameters, with their type."""
    read: Callable[[], Any]
    """The parameters, on the default device; a ValueError names a tensor of the wrong shape or type."""


Name = str | Part
"""Of a tensor, or of a part of one."""
Rewrites = Mapping[str, str | Callable[[re.Match], str]]
"""Patterns in the names of a module, joined by dots -> what the file has instead."""


def tensors_of(file: Path) -> dict[str, Path]:
    """The file, by the name of each tensor in it.

    Raises:
        ValueError: it is damaged.
    """
    with _open(file) as opened:
        return dict.fromkeys(opened.keys(), file)


def find_tensors(folder: Path) -> dict[str, Path]:
    """The file that holds each tensor, by the tensor's name.

    Raises:
        FileNotFoundError: there are no weights, or a file listed in the index is missing.
        ValueError: the weights exist only as a pickle, or a file is damaged.
    """
    for name in FILES:
        if (folder / name).is_file():
            return tensors_of(folder / name)
    for name in INDICES:
        if (folder / name).is_file():
            return _sharded(folder / name)
    pickles = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
    if pickles:
        raise ValueError(
            f"{folder} has {pickles[0]} but no model.safetensors: pickles are not read, as they can run code;"
            " convert it to safetensors: from_pretrained(folder).save_pretrained(folder) in transformers"
        )
    raise FileNotFoundError(f"{folder} has no weights: expected one of {', '.join(FILES + INDICES)}")


def _sharded(index: Path) -> dict[str, Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise ValueError(f"{index} has no weight_map: expected a map from tensor names to files")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{index} names the file {quoted(name)}: expected one in its folder")
    missing = sorted({name for name in names.values() if not (index.parent / name).is_file()})
    if missing:
        raise FileNotFoundError(f"{index.parent / missing[0]} does not exist: {index.name} lists it")
    return {key: index.parent / name for key, name in names.items()}


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise ValueError(
            f"{file} ({file.stat().st_size} bytes) is not a complete safetensors file: {error};"
            " download it again, with git lfs if it came from git"
        ) from None


def name_of(path: tuple[str, ...], names: Mapping[str, str]) -> str:
    """The tensor's name for a parameter of the module, mapped part by part; a name like `block_` is a prefix.

    >>> name_of(("block_3", "up", "kernel"), {"block_": "layers.", "up": "fc1", "kernel": "weight"})
    'layers.3.fc1.weight'
    """
    prefixes = [name for name in names if name.endswith("_")]

    def mapped(part: str) -> str:
        prefix = next((prefix for prefix in prefixes if part.startswith(prefix)), None)
        return names.get(part, part) if prefix is None else names[prefix] + part.removeprefix(prefix)

    return ".".join(map(mapped, path))


def rewritten(name: str, rewrites: Rewrites) -> str:
    """The name after all replacements, in order.

    >>> rewritten("block_3.up.kernel", {r"block_(\\d+)": r"layers.\\1", "kernel$": "weight"})
    'layers.3.up.weight'
    """
    for pattern, new in rewrites.items():
        name = re.sub(pattern, new, name)
    return name


def shapes_of(file: Path, network: linen.Module, *inputs: Any) -> Any:
    """Shapes of the parameters of the network that a configuration describes.

    Raises:
        ValueError: it cannot be built; the message names the file.
    """
    try:
        return jax.eval_shape(network.init, jax.eval_shape(jax.random.key, 0), *inputs)["params"]
    except Exception as error:  # whatever a module raises on attributes that do not fit together
        raise ValueError(f"{file}: its network cannot be built: {error}") from None


def read_params(
    tensors: Mapping[str, Path],
    shapes: Any,
    name: Callable[[tuple[str, ...]], Name],
    blocks: str,
    dtype: str = "float32",
) -> Any:
    """The parameters of a module, on the default device; arguments and errors as of `find_params`."""
    return find_params(tensors, shapes, name, blocks, dtype).read()


def find_params(
    tensors: Mapping[str, Path],
    shapes: Any,
    name: Callable[[tuple[str, ...]], Name],
    blocks: str,
    dtype: str = "float32",
) -> Stored:
    """The tensors that are the parameters of a module.

    Args:
        tensors: the file of each tensor, from `find_tensors`.
        shapes: shapes of the parameters, from `jax.eval_shape`.
        name: the tensor's name for the path of a parameter in the module, as by `name_of`.
        blocks: prefix of the names of the blocks' tensors, all of which must be used.
        dtype: of the parameters, to which each tensor is converted as soon as it is read.

    Raises:
        ValueError: a tensor is missing or unused; or when it is read, of the wrong shape, or not a float.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    paths = [tuple(part.key for part in path) for path, _ in leaves]
    parts = [Part(found) if isinstance(found, str) else found for found in map(name, paths)]
    keys = [part.key for part in parts]
    missing = [key for key in keys if key not in tensors]
    if missing:
        raise ValueError(f"{_location(tensors)} has no tensor {missing[0]!r}, which the network requires")
    unused = sorted(key for key in tensors if key.startswith(blocks) and key not in keys)
    if unused:
        raise ValueError(f"{tensors[unused[0]]} has the tensor {unused[0]!r}, which the network lacks")

    def read() -> Any:
        # One by one, so that never more than one tensor is in memory twice.
        arrays = [
            jax.device_put(_read(tensors[part.key], part, leaf.shape, _axes(path, leaf.ndim), kind))
            for part, path, (_, leaf) in zip(parts, paths, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, arrays)

    kind = jnp.dtype(dtype)
    return Stored(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, kind), shapes), read)


def convolution_of(tensors: Mapping[str, Path], key: str) -> tuple[int, int, int]:
    """Outputs, inputs and side of the kernel of a convolution.

    Raises:
        ValueError: there is none of that name.
    """
    outputs, inputs, side, _ = _shape(tensors, key, 4, "a convolution")
    return outputs, inputs, side


def matrix_of(tensors: Mapping[str, Path], key: str) -> tuple[int, int]:
    """Outputs and inputs of a dense layer, or rows and columns of a table.

    Raises:
        ValueError: there is none of that name.
    """
    rows, columns = _shape(tensors, key, 2, "a matrix")
    return rows, columns


def vector_of(tensors: Mapping[str, Path], key: str) -> Float[np.ndarray, " n"]:
    """The numbers of a vector.

    Raises:
        ValueError: there is none of that name.
    """
    _shape(tensors, key, 1, "a vector")
    with _open(tensors[key]) as opened:
        return np.asarray(opened.get_tensor(key)).astype(np.float64)


def _shape(tensors: Mapping[str, Path], key: str, axes: int, kind: str) -> tuple[int, ...]:
    if key not in tensors:
        raise ValueError(f"{_location(tensors)} has no tensor {key!r}, which the network requires")
    with _open(tensors[key]) as opened:
        shape = tuple(opened.get_slice(key).get_shape())
    if len(shape) != axes:
        raise ValueError(f"{tensors[key]}: tensor {key!r} has the shape {shape}, expected {kind}")
    return shape


def same(tensors: Mapping[str, Path], one: str, other: str) -> bool:
    """Whether two tensors are equal."""
    with _open(tensors[one]) as first, _open(tensors[other]) as second:
        return np.array_equal(np.asarray(first.get_tensor(one)), np.asarray(second.get_tensor(other)))


def _location(tensors: Mapping[str, Path]) -> Path:
    """The file, or the folder if there are several."""
    files = set(tensors.values())
    return files.pop() if len(files) == 1 else next(iter(files)).parent


def _axes(path: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    """The file's axis for each axis of a parameter."""
    if path[-1] != "kernel":
        return tuple(range(ndim))
    if ndim not in KERNEL_AXES:
        raise ValueError(
            f"{'.'.join(path)} has {ndim} axes: must be one of {', '.join(map(str, KERNEL_AXES))}"
        )
    return KERNEL_AXES[ndim]


def _read(
    file: Path, part: Part, shape: tuple[int, ...], axes: tuple[int, ...], dtype: np.dtype
) -> Float[np.ndarray, "..."]:
    rows, *rest = (shape[axes.index(i)] for i in range(len(shape)))
    key, expected = part.key, (part.of * rows, *rest)
    with _open(file) as opened:
        if key not in opened.keys():  # noqa: SIM118 (safe_open has no `in`)
            raise ValueError(f"{file} has no tensor {key!r}, although the index lists it there")
        found = opened.get_slice(key)
        stored = tuple(found.get_shape())
        of_patches = len(axes) == 2 and len(stored) == 4 and (stored[0], math.prod(stored[1:])) == expected
        alone = part.of == 1 and stored == (1,) * (len(stored) - len(expected)) + expected
        if stored != expected and not of_patches and not alone:
            raise ValueError(
                f"{file}: tensor {key!r} has the shape {stored}, expected {expected} by the network"
            )
        if found.get_dtype() not in FLOATS:
            raise ValueError(
                f"{file}: tensor {key!r} is {found.get_dtype()}: must be one of {', '.join(FLOATS)}"
            )
        here = slice(part.number * rows, (part.number + 1) * rows)
        found = found[here] if len(stored) == len(expected) or of_patches else opened.get_tensor(key)
        array = np.asarray(found).astype(dtype).reshape(-1, *stored[1:] if of_patches else rest)
    array = np.roll(array, rows // 2, axis=0) if part.swapped else array
    return array.transpose(KERNEL_AXES[4]).reshape(shape) if of_patches else array.transpose(axes)
