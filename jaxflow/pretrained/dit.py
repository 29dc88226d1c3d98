"""DiT and SiT, which have the same network, from files of the original code or of diffusers.

All sizes follow from the tensors but the number of heads, which a configuration has, or the published width.
diffusers stores a copy of the embeddings of time and class in every block, and embeds time at slightly other
frequencies than the original code, with which the weights were trained: each folder is read as its own code
does.
"""

import re
from collections.abc import Callable, Container, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxflow.nn.attributes import Dtype
from jaxflow.nn.conditioning import ClassTable
from jaxflow.nn.dit import SIZES, DiT
from jaxflow.pretrained.tensors import (
    Name,
    Part,
    Rewrites,
    Stored,
    convolution_of,
    find_params,
    matrix_of,
    rewritten,
    same,
)

FREQUENCIES = 256
ORIGINAL: Rewrites = {
    r"^encode\.table\.embedding": "y_embedder.embedding_table.weight",
    r"^time_embedding\.hidden": "t_embedder.mlp.0",
    r"^time_embedding\.out": "t_embedder.mlp.2",
    r"^patch_embedding": "x_embedder.proj",
    r"^block_(\d+)": r"blocks.\1",
    r"modulation\.linear": "adaLN_modulation.1",
    r"^final_ada": "final_layer.ada",
    r"^final\b": "final_layer.linear",
    r"attention\.(query|key|value)": "attn.qkv",
    r"attention\.out": "attn.proj",
    r"mlp\.up": "mlp.fc1",
    r"mlp\.down": "mlp.fc2",
    r"kernel$": "weight",
}
DIFFUSERS: Rewrites = {
    r"^encode\.table\.embedding": "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight",
    r"^time_embedding\.hidden": "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1",
    r"^time_embedding\.out": "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2",
    r"^patch_embedding": "pos_embed.proj",
    r"^block_(\d+)": r"transformer_blocks.\1",
    r"\bmodulation\.linear": "norm1.linear",
    r"^final_modulation\.linear": "proj_out_1",
    r"^final\b": "proj_out_2",
    r"attention\.query": "attn1.to_q",
    r"attention\.key": "attn1.to_k",
    r"attention\.value": "attn1.to_v",
    r"attention\.out": "attn1.to_out.0",
    r"mlp\.up": "ff.net.0.proj",
    r"mlp\.down": "ff.net.2",
    r"kernel$": "weight",
}
PROJECTIONS = ("query", "key", "value")
POSITIONS = "pos_embed"
"""A buffer of the original code, which is computed here."""


class Published(NamedTuple):
    """A network with its parameters."""

    network: DiT
    params: Stored
    classes: int


def read(tensors: Mapping[str, Path], heads: int | None = None, dtype: Dtype = "float32") -> Published:
    """The network whose tensors are in these files.

    Args:
        tensors: from `find_tensors`.
        heads: attention heads; None for those of the published size of this width.
        dtype: of the parameters and the computation.

    Raises:
        ValueError: a tensor is missing, unused or of the wrong shape, or the number of heads is not known;
            the message names it.
    """
    of_diffusers = is_of_diffusers(tensors)
    key = lambda name: rewritten(name, DIFFUSERS if of_diffusers else ORIGINAL)  # noqa: E731
    width, channels, patch = convolution_of(tensors, key("patch_embedding.kernel"))
    rows, _ = matrix_of(tensors, key("encode.table.embedding"))
    outputs, _ = matrix_of(tensors, key("final.kernel"))
    inner, _ = matrix_of(tensors, key("block_0.mlp.up.kernel"))
    of_width = {size["width"]: size["heads"] for size in SIZES.values()}
    if heads is None and width not in of_width:
        raise ValueError(
            f"transformer: no published DiT has {width} channels: its number of heads is unknown"
        )
    network = DiT(
        encode=ClassTable(rows - 1),
        patch=patch,
        width=width,
        depth=len([*takewhile(lambda i: key(f"block_{i}.mlp.up.kernel") in tensors, count())]),
        heads=of_width[width] if heads is None else heads,
        mlp_ratio=inner // width,
        frequencies=FREQUENCIES,
        period=1e4 ** (128 / 127) if of_diffusers else 1e4,
        learned_variance=outputs == 2 * channels * patch**2,
        dtype=dtype,
    )
    x = jax.ShapeDtypeStruct((1, 8 * patch, 8 * patch, channels), jnp.float32)
    t, y = (jax.ShapeDtypeStruct((1,), kind) for kind in (jnp.float32, jnp.int32))
    shapes = jax.eval_shape(network.init, jax.eval_shape(jax.random.key, 0), x, t, y)["params"]
    params = find_params(_without_copies(tensors), shapes, name_of(tensors), "", dtype)
    return Published(network, params, rows - 1)


def is_of_diffusers(tensors: Container[str]) -> bool:
    """Whether the tensors have the names of diffusers, and not those of the original code."""
    return "pos_embed.proj.weight" in tensors


def name_of(tensors: Container[str]) -> Callable[[tuple[str, ...]], Name]:
    """The path of a parameter -> its name among these tensors."""
    of_diffusers = is_of_diffusers(tensors)

    def named(path: tuple[str, ...]) -> Name:
        found = rewritten(".".join(path), DIFFUSERS if of_diffusers else ORIGINAL)
        if of_diffusers or path[-2] not in PROJECTIONS:
            return found
        return Part(found, PROJECTIONS.index(path[-2]), 3)

    return named


def _without_copies(tensors: Mapping[str, Path]) -> dict[str, Path]:
    """The tensors without the positions and the copies of the embeddings.

    Raises:
        ValueError: a copy differs from the first.
    """
    kept = {}
    for name, file in tensors.items():
        first = re.sub(r"^transformer_blocks\.\d+\.norm1\.emb\.", "transformer_blocks.0.norm1.emb.", name)
        if first == name and name != POSITIONS:
            kept[name] = file
        elif name != POSITIONS and not same(tensors, name, first):
            raise ValueError(f"{file}: tensor {name!r} is no copy of {first!r}: it must be one")
    return kept
