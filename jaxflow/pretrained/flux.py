"""The transformer of FLUX.1, from files with the names of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.attributes import Dtype
from jaxflow.nn.conditioning import TokenSequence
from jaxflow.nn.flux import PATCH, Flux
from jaxflow.pretrained import sd3
from jaxflow.pretrained.folders import count
from jaxflow.pretrained.tensors import Name, Part, Rewrites, Stored, find_params, rewritten, shapes_of
from jaxflow.ranges import quoted

NAMES: Rewrites = {
    r"^guidance_embedding\.hidden": "time_text_embed.guidance_embedder.linear_1",
    r"^guidance_embedding\.out": "time_text_embed.guidance_embedder.linear_2",
    r"^single_(\d+)\.modulation": r"single_transformer_blocks.\1.norm",
    r"^single_(\d+)\.(query|key)_norm": lambda found: (
        f"single_transformer_blocks.{found[1]}.attn.norm_{found[2][0]}"
    ),
    r"^single_(\d+)\.(query|key|value)": lambda found: (
        f"single_transformer_blocks.{found[1]}.attn.to_{found[2][0]}"
    ),
    r"^single_(\d+)\.up": r"single_transformer_blocks.\1.proj_mlp",
    r"^single_(\d+)\.out": r"single_transformer_blocks.\1.proj_out",
    **sd3.NAMES,
    r"^pos_embed\.proj": "x_embedder",
}
"""The blocks of two streams, and all around them, are named as in Stable Diffusion 3."""
DISTILLED_SCALE = 3.5
"""Of the pipeline, for FLUX.1-dev."""


def network_of(file: Path, config: Mapping[str, Any]) -> Flux:
    """The module that a config.json describes.

    Raises:
        ValueError: it is another network; the message names the entry.
    """
    heads, axes = count(file, config, "num_attention_heads"), config.get("axes_dims_rope", (16, 56, 56))
    if config.get("patch_size", 1) != 1 or not all(type(axis) is int for axis in axes):
        raise ValueError(f"{file}: patch_size or axes_dims_rope = {quoted(axes)}: not those of FLUX.1")
    return Flux(
        width=heads * count(file, config, "attention_head_dim"),
        heads=heads,
        depth=count(file, config, "num_layers"),
        single_depth=count(file, config, "num_single_layers"),
        axes=tuple(axes),  # type: ignore[arg-type]
        distilled_scale=DISTILLED_SCALE if config.get("guidance_embeds") else None,
    )


def read(
    tensors: Mapping[str, Path], file: Path, config: Mapping[str, Any], dtype: Dtype = "float32"
) -> tuple[Flux, Stored]:
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
    of = lambda *shape: jax.ShapeDtypeStruct((1, *shape), jnp.float32)  # noqa: E731
    channels = count(file, config, "in_channels") // PATCH**2
    tokens, pooled = (count(file, config, f"{part}_dim") for part in ("joint_attention", "pooled_projection"))
    y = TokenSequence(of(1, tokens), jax.ShapeDtypeStruct((1, 1), jnp.bool), of(pooled))  # type: ignore[arg-type]
    shapes = shapes_of(file, network, of(PATCH, PATCH, channels), of(), y)
    return network, find_params(tensors, shapes, name_of, "", dtype)


def name_of(path: tuple[str, ...]) -> Name:
    """The tensor for the path of a parameter in the module; in the last norm, scale comes before shift.

    >>> name_of(("single_3", "query_norm", "scale"))
    'single_transformer_blocks.3.attn.norm_q.weight'
    """
    name = rewritten(".".join(path), NAMES)
    return Part(name, swapped=True) if name.startswith("norm_out.") else name
