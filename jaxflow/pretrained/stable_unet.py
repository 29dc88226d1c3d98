"""The U-Net of Stable Diffusion 1, 2 and XL, from files with the names of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.attributes import Dtype
from jaxflow.nn.stable_unet import StableUNet
from jaxflow.pretrained.folders import count
from jaxflow.pretrained.tensors import Rewrites, Stored, find_params, matrix_of, rewritten, shapes_of
from jaxflow.ranges import quoted

NAMES: Rewrites = {
    r"^time_embedding\.hidden": "time_embedding.linear_1",
    r"^time_embedding\.out": "time_embedding.linear_2",
    r"^vector_embedding\.hidden": "add_embedding.linear_1",
    r"^vector_embedding\.out": "add_embedding.linear_2",
    r"^(down|up)_(\d+)_residual_(\d+)": r"\1_blocks.\2.resnets.\3",
    r"^(down|up)_(\d+)_attention_(\d+)": r"\1_blocks.\2.attentions.\3",
    r"^(down|up)_(\d+)_sample": r"\1_blocks.\2.\1samplers.0",
    r"^middle_residual_": "mid_block.resnets.",
    r"^middle_attention": "mid_block.attentions.0",
    r"\.modulation": ".time_emb_proj",
    r"\.shortcut": ".conv_shortcut",
    r"\.block_": ".transformer_blocks.",
    r"\.self_attention\.": ".attn1.to_",
    r"\.cross_attention\.": ".attn2.to_",
    r"to_query": "to_q",
    r"to_key": "to_k",
    r"to_value": "to_v",
    r"to_out": "to_out.0",
    r"(transformer_blocks\.\d+)\.up": r"\1.ff.net.0.proj",
    r"(transformer_blocks\.\d+)\.down": r"\1.ff.net.2",
    r"^norm_out": "conv_norm_out",
    r"(kernel|scale)$": "weight",
}
FIXED = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "downsample_padding": 1,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "time_embedding_type": "positional",
    "resnet_time_scale_shift": "default",
    "class_embed_type": None,
    "encoder_hid_dim": None,
    "num_class_embeds": None,
}
"""What all of these networks have in their configuration, if they mention it."""
WITH, WITHOUT = "CrossAttnDownBlock2D", "DownBlock2D"
CONTEXT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def network_of(file: Path, config: Mapping[str, Any]) -> StableUNet:
    """The module that a config.json describes.

    Raises:
        ValueError: it is another network; the message names the entry.
    """
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"{file}: {name} = {quoted(config[name])}: must be {quoted(value)}, as in"
                " Stable Diffusion 1, 2 and XL"
            )
    channels, kinds = config.get("block_out_channels"), config.get("down_block_types")
    if not isinstance(channels, list) or not isinstance(kinds, list) or not {*kinds} <= {WITH, WITHOUT}:
        raise ValueError(
            f"{file}: block_out_channels = {quoted(channels)}, down_block_types = {quoted(kinds)}:"
            f" expected a list of numbers and one of {WITH} and {WITHOUT}"
        )
    # `attention_head_dim` is the number of heads, whatever its name says.
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    depths = config.get("transformer_layers_per_block", 1)
    return StableUNet(
        channels=tuple(channels),
        attention=tuple(kind == WITH for kind in kinds),
        heads=_per_resolution(heads, len(channels)),
        depths=_per_resolution(depths, len(channels)),
        blocks=config.get("layers_per_block", 2),
        groups=config.get("norm_num_groups", 32),
    )


def _per_resolution(value: Any, resolutions: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * resolutions


def read(
    tensors: Mapping[str, Path], file: Path, config: Mapping[str, Any], dtype: Dtype = "float32"
) -> tuple[StableUNet, Stored]:
    """The network and its parameters.

    Args:
        tensors: from `find_tensors`.
        file: the config.json, for messages.
        config: its content.
        dtype: of the parameters and the computation.

    Raises:
        ValueError: it is another network, or a tensor is missing, unused or of the wrong shape; the message
            names it.
    """
    network, (_, context) = network_of(file, config).clone(dtype=dtype), matrix_of(tensors, CONTEXT)
    side = 2 ** (len(network.channels) - 1)
    x = jax.ShapeDtypeStruct((1, side, side, config.get("in_channels", 4)), jnp.float32)
    t, tokens = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1,), (1, 1, context)))
    size = vector_width(config, file)
    vector = () if size is None else (jax.ShapeDtypeStruct((1, size), jnp.float32),)
    shapes = shapes_of(file, network, x, t, tokens, *vector)
    return network, find_params(tensors, shapes, name_of, "", dtype)


def vector_width(config: Mapping[str, Any], file: Path) -> int | None:
    """Numbers in the vector of XL's configuration; None for other networks.

    Raises:
        ValueError: it has another embedding; the message names the entry.
    """
    kind = config.get("addition_embed_type")
    if kind is None:
        return None
    if kind != "text_time":
        raise ValueError(f"{file}: addition_embed_type = {quoted(kind)}: must be None or 'text_time'")
    return count(file, config, "projection_class_embeddings_input_dim")


def name_of(path: tuple[str, ...]) -> str:
    """The tensor's name for the path of a parameter in the module.

    >>> name_of(("up_1_attention_0", "block_0", "cross_attention", "query", "kernel"))
    'up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight'
    """
    return rewritten(".".join(path), NAMES)
