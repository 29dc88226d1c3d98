"""Low-rank adapters in files, with the names that are in use for a kernel BASE of a published network.

    unet.BASE.lora_A.weight, lora_B.weight             of diffusers and PEFT, which `encoded` has
    unet.BASE.lora.down.weight, lora.up.weight         of older diffusers, and in attn1.processor.to_q_lora
    lora_unet_BASE.lora_down.weight, lora_up.weight    of kohya, with underscores for dots, and BASE.alpha

A transformer has `transformer` in place of `unet`. For Stable Diffusion XL kohya has BASE of the original
code, which numbers the blocks of all resolutions in a row: input_blocks.4.1, not down_blocks.1.attentions.0.
The scale of a file is alpha / rank, or 1.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxflow.adapters import Adapter, Factors
from jaxflow.pretrained.tensors import FLOATS, Name, Rewrites, rewritten
from jaxflow.ranges import quoted

NameOf = Callable[[tuple[str, ...]], Name]
"""The published name for the path of a parameter."""
ROW = 3
"""Blocks of a resolution in the original code: two, and a change of size."""
ORIGINAL: Rewrites = {
    r"^down_blocks\.(\d+)\.(\w+)\.(\d+)": lambda found: f"input_blocks.{_number(found) + 1}.{_place(found)}",
    r"^up_blocks\.(\d+)\.(\w+)\.(\d+)": lambda found: f"output_blocks.{_number(found)}.{_place(found)}",
    r"^mid_block\.attentions\.0": "middle_block.1",
    r"^mid_block\.resnets\.(\d+)": lambda found: f"middle_block.{2 * int(found[1])}",
    r"\btime_emb_proj": "emb_layers.1",
    r"^time_embedding\.linear_(\d)": lambda found: f"time_embed.{2 * int(found[1]) - 2}",
    r"^add_embedding\.linear_(\d)": lambda found: f"label_emb.0.{2 * int(found[1]) - 2}",
}
"""The names of the matrices of Stable Diffusion XL in its original code."""
OF_TEXT = ("text_encoder", "lora_te")
METADATA = "lora_adapter_metadata"


def read(file: Path, params: Any, name_of: NameOf, part: str) -> Adapter:
    """The adapter in a file.

    Args:
        file: safetensors.
        params: of the network, or their shapes.
        name_of: the published name for the path of a parameter.
        part: unet or transformer.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no such file, or changes something that the network lacks; the message names it.
    """
    tensors, alphas = _open(file, part)
    kernels = traverse_util.flatten_dict(params, sep="/")
    adapter: Adapter = {}
    used: set[str] = set()
    for path, kernel in kernels.items():
        name = name_of(tuple(path.split("/")))
        if kernel.ndim != 2 or not isinstance(name, str):
            continue
        base = name.removesuffix(".weight")
        found = next((keys for keys in _keys(base, part) if keys[0] in tensors), None)
        if found is None:
            continue
        down, up = (_matrix(file, tensors, key) for key in found[:2])
        if (down.shape[1], up.shape[0], down.shape[0]) != (*kernel.shape, up.shape[1]):
            raise ValueError(
                f"{file}: {found[0]} and {found[1]} have the shapes {down.shape} and {up.shape}, which do not"
                f" change a kernel of the shape {tuple(reversed(kernel.shape))}"
            )
        alpha = float(tensors[found[2]]) if found[2] in tensors else alphas.get(base, len(down))
        adapter[path] = Factors(jnp.asarray(down.T), jnp.asarray(up.T * (alpha / len(down))))
        used.update(found)
    left = sorted(tensors.keys() - used)
    of_text = [key for key in left if key.startswith(OF_TEXT)]
    if of_text:
        warnings.warn(f"{file}: its {len(of_text)} tensors of text encoders are not applied", stacklevel=2)
    unknown = [key for key in left if key not in of_text]
    if unknown or not adapter:
        raise ValueError(
            f"{file} is no adapter of this network: it has {quoted(unknown[0]) if unknown else 'no tensors'}"
        )
    return adapter


def encoded(adapter: Adapter, name_of: NameOf, part: str) -> bytes:
    """The file of an adapter, as diffusers and PEFT write it.

    Raises:
        ValueError: a kernel has no name of its own in published files.
    """
    tensors = {}
    for path, (down, up) in adapter.items():
        name = name_of(tuple(path.split("/")))
        if not isinstance(name, str):
            raise ValueError(f"adapter: {path} is a part of {name.key} in published files")
        base = f"{part}.{name.removesuffix('.weight')}"
        tensors[f"{base}.lora_A.weight"] = np.ascontiguousarray(np.asarray(down, np.float32).T)
        tensors[f"{base}.lora_B.weight"] = np.ascontiguousarray(np.asarray(up, np.float32).T)
    return save(tensors)


def _keys(base: str, part: str) -> Iterator[tuple[str, str, str]]:
    """Down, up and alpha in each of the schemes."""
    processor = re.sub(r"\.(to_(?:q|k|v|out))(?:\.0)?$", r".processor.\1_lora", base)
    for prefix in (f"{part}.", ""):
        yield f"{prefix}{base}.lora_A.weight", f"{prefix}{base}.lora_B.weight", f"{prefix}{base}.alpha"
        yield f"{prefix}{base}.lora.down.weight", f"{prefix}{base}.lora.up.weight", f"{prefix}{base}.alpha"
        yield f"{prefix}{processor}.down.weight", f"{prefix}{processor}.up.weight", f"{prefix}{base}.alpha"
    for name in (base, rewritten(base, ORIGINAL)):
        kohya = f"lora_{part}_{name.replace('.', '_')}"
        yield f"{kohya}.lora_down.weight", f"{kohya}.lora_up.weight", f"{kohya}.alpha"


def _number(found: re.Match) -> int:
    return ROW * int(found[1]) + int(found[3])


def _place(found: re.Match) -> int:
    """In the block: a residual block, then attention."""
    return int(found[2] == "attentions")


def _open(file: Path, part: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The tensors, and the alphas that are said in the metadata."""
    if not file.is_file():
        raise FileNotFoundError(f"adapter {quoted(str(file))} does not exist")
    try:
        with safe_open(file, framework="numpy") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            said = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is not a complete safetensors file of an adapter: {error}") from None
    kinds = {str(tensor.dtype) for tensor in tensors.values()} - {"float64", "float32", "float16", "bfloat16"}
    if kinds:
        raise ValueError(f"{file} has tensors of {min(kinds)}: must be one of {', '.join(FLOATS)}")
    return {key: tensor.astype(np.float32) for key, tensor in tensors.items()}, _alphas(said, part, tensors)


def _alphas(said: Mapping[str, Any], part: str, tensors: Mapping[str, Any]) -> dict[str, float]:
    """Of each kernel, if there is one number for all."""
    alpha = said.get(f"{part}.lora_alpha")
    if not isinstance(alpha, int | float):
        return {}
    ends = ".lora_A.weight"
    names = (key.removeprefix(f"{part}.").removesuffix(ends) for key in tensors if key.endswith(ends))
    return dict.fromkeys(names, float(alpha))


def _matrix(file: Path, tensors: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """(out, in), also of a 1 x 1 convolution."""
    if key not in tensors:
        raise ValueError(f"{file} has no tensor {key!r}, only the other factor")
    tensor = tensors[key]
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor[..., 0, 0]
    if tensor.ndim != 2:
        raise ValueError(f"{file}: tensor {key!r} has the shape {tensor.shape}, expected a matrix")
    return tensor
