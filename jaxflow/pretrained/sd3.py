"""The MM-DiT of Stable Diffusion 3 and 3.5, from files with the names of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.attributes import Dtype
from jaxflow.nn.conditioning import PooledMLP, TokenSequence
from jaxflow.nn.dit import DiT
from jaxflow.pretrained.folders import count
from jaxflow.pretrained.tensors import Name, Part, Rewrites, Stored, find_params, rewritten, shapes_of
from jaxflow.ranges import quoted

NAMES: Rewrites = {
    r"^position_embedding": "pos_embed.pos_embed",
    r"^patch_embedding": "pos_embed.proj",
    r"^time_embedding\.hidden": "time_text_embed.timestep_embedder.linear_1",
    r"^time_embedding\.out": "time_text_embed.timestep_embedder.linear_2",
    r"^encode\.hidden": "time_text_embed.text_embedder.linear_1",
    r"^encode\.out": "time_text_embed.text_embedder.linear_2",
    r"^text_embedding": "context_embedder",
    r"^final_modulation\.linear": "norm_out.linear",
    r"^final\b": "proj_out",
    r"^block_(\d+)": r"transformer_blocks.\1",
    r"image_modulation": "norm1",
    r"text_modulation": "norm1_context",
    r"\.attention\.(query|key)_norm": lambda found: f".attn2.norm_{found[1][0]}",
    r"\.attention\.(query|key|value)": lambda found: f".attn2.to_{found[1][0]}",
    r"\.attention\.out": ".attn2.to_out.0",
    r"image_(query|key)_norm": lambda found: f"attn.norm_{found[1][0]}",
    r"image_(query|key|value)": lambda found: f"attn.to_{found[1][0]}",
    r"image_out": "attn.to_out.0",
    r"text_(query|key)_norm": lambda found: f"attn.norm_added_{found[1][0]}",
    r"text_(query|key|value)": lambda found: f"attn.add_{found[1][0]}_proj",
    r"text_out": "attn.to_add_out",
    r"image_mlp\.up": "ff.net.0.proj",
    r"image_mlp\.down": "ff.net.2",
    r"text_mlp\.up": "ff_context.net.0.proj",
    r"text_mlp\.down": "ff_context.net.2",
    r"(kernel|scale)$": "weight",
}
FREQUENCIES = 256
UNUSED = ("add_q_proj.weight", "add_q_proj.bias", "norm_added_q.weight")
"""The last block's tensors for queries of the text, which no output depends on."""


def network_of(file: Path, config: Mapping[str, Any]) -> DiT:
    """The module that a config.json describes.

    Raises:
        ValueError: it is another network; the message names the entry.
    """
    norm, dual = config.get("qk_norm"), config.get("dual_attention_layers") or ()
    if norm not in (None, "rms_norm"):
        raise ValueError(f"{file}: qk_norm = {quoted(norm)}: must be None or 'rms_norm'")
    if list(dual) != list(range(len(dual))):
        raise ValueError(f"{file}: dual_attention_layers = {quoted(dual)}: must be the first layers")
    heads = count(file, config, "num_attention_heads")
    return DiT(
        encode=PooledMLP(),
        patch=count(file, config, "patch_size"),
        width=heads * count(file, config, "attention_head_dim"),
        depth=count(file, config, "num_layers"),
        heads=heads,
        joint_attention=True,
        dual_blocks=len(dual),
        qk_norm=norm is not None,
        positions="learned",
        position_grid=count(file, config, "pos_embed_max_size"),
        frequencies=FREQUENCIES,
    )


def read(
    tensors: Mapping[str, Path], file: Path, config: Mapping[str, Any], dtype: Dtype = "float32"
) -> tuple[DiT, Stored]:
    """The network and its parameters.

    Args:
        tensors: from `find_tensors`.
        file: the config.json.
        config: its content.
        dtype: of the parameters and the computation.

    Raises:
        ValueError: it is another network, or a tensor is missing, unused or of the wrong shape; the message
            names it.
    """
    network = network_of(file, config).clone(dtype=dtype)
    inputs = inputs_of(file, config, network)
    last = f"transformer_blocks.{network.depth - 1}.attn."
    used = {name: place for name, place in tensors.items() if name not in {last + end for end in UNUSED}}
    params = find_params(used, shapes_of(file, network, *inputs), lambda path: name_of(path, last), "", dtype)
    return network, params


def inputs_of(file: Path, config: Mapping[str, Any], network: DiT) -> tuple[Any, Any, TokenSequence]:
    """Shapes of the inputs of the network, for one patch and one token."""
    of = lambda *shape: jax.ShapeDtypeStruct((1, *shape), jnp.float32)  # noqa: E731
    x = of(network.patch, network.patch, count(file, config, "in_channels"))
    tokens, pooled = (count(file, config, f"{part}_dim") for part in ("joint_attention", "pooled_projection"))
    mask = jax.ShapeDtypeStruct((1, 1), jnp.bool)
    return x, of(), TokenSequence(of(1, tokens), mask, of(pooled))  # type: ignore[arg-type]


def name_of(path: tuple[str, ...], last: str) -> Name:
    """The tensor for the path of a parameter in the module.

    In the last norms of image and text, scale comes before shift.
    """
    name = rewritten(".".join(path), NAMES)
    swapped = name.startswith(("norm_out.", last.removesuffix("attn.") + "norm1_context."))
    return Part(name, swapped=True) if swapped else name
