"""CLIP's text encoder from a folder on disk.

The folder holds a CLIPTextModel, CLIPTextModelWithProjection or CLIPModel of `transformers`, or a pipeline of
`diffusers`, such as Stable Diffusion.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.clip_text import CLIPText
from jaxflow.nn.pre_norm import ACTIVATIONS
from jaxflow.pretrained import vocabularies
from jaxflow.pretrained.folders import Folder, locate, read_json
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params
from jaxflow.pretrained.text import PretrainedText, check_fit

DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
    "projection_dim": 512,
}
"""Defaults for keys that a config.json omits."""

LEGACY_END = 2
"""eos_token_id of the oldest files, which is wrong: the end token has the largest id in a text."""

PROJECTION = "text_projection.weight"
PROJECTING = {"CLIPModel", "CLIPTextModelWithProjection"}
NAMES = {
    "token_embedding": "embeddings.token_embedding",
    "position_embedding": "embeddings.position_embedding.weight",
    "final_norm": "final_layer_norm",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attention": "self_attn",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
}
"""Names in the module -> names in the file, without the prefix that all but the projection may have."""


def load(
    folder: Folder,
    max_length: int | None = None,
    *,
    subfolder: str | None = None,
    skip: int = 0,
    final_norm: bool = True,
    dtype: str = "float32",
) -> PretrainedText:
    """Read a text encoder and its tokenizer.

    Args:
        folder: folder of the encoder, or of a pipeline.
        max_length: tokens per prompt, including start and end; by default that of the model, usually 77.
        subfolder: encoder of a pipeline, such as text_encoder_2; text_encoder by default.
        skip: number of last blocks skipped by the tokens; 1 in Stable Diffusion XL.
        final_norm: whether the tokens pass the final normalisation; False in Stable Diffusion XL.
        dtype: of the parameters and the computation, float32 or bfloat16.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file is not that of a CLIP text encoder, or does not match the others; the message names
            it.
    """
    folders = locate(folder, subfolder)
    tensors = find_tensors(folders.encoder)
    config = folders.encoder / "config.json"
    network = network_of(config, tensors).clone(skip=skip, final_norm=final_norm, dtype=dtype)
    words = vocabularies.read_clip(folders.tokenizer)
    max_length = network.positions if max_length is None else max_length
    if max_length > network.positions:
        raise ValueError(
            f"max_length = {max_length}: must be at most the model's {network.positions} positions"
        )
    if network.end_token not in (None, words.end):
        raise ValueError(
            f"{config}: eos_token_id = {network.end_token}: must be the tokenizer's end token, {words.end}"
        )
    check_fit(network, words, max_length)
    prefix = "text_model." if any(name.startswith("text_model.") for name in tensors) else ""
    ids = jax.ShapeDtypeStruct((1, max_length), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), ids)["params"]
    name = partial(name_of, names=_names(prefix))
    params = read_params(tensors, shapes, name, prefix + "encoder.layers.", dtype)
    return PretrainedText(network, params, words, max_length)


def network_of(file: Path, tensors: Container[str]) -> CLIPText:
    """The module that a config.json describes.

    Args:
        file: the config.json.
        tensors: names of the weights; the module has a projection if these, or the model's class, have one.

    Raises:
        ValueError: it does not describe a CLIP text encoder.
    """
    config = read_json(file)
    if config.get("model_type") not in ("clip", "clip_text_model"):
        raise ValueError(
            f"{file}: model_type = {config.get('model_type')!r}: must be clip or clip_text_model"
        )
    text = DEFAULTS | _text_config(config)
    if text["hidden_act"] not in ACTIVATIONS:
        raise ValueError(f"{file}: hidden_act = {text['hidden_act']!r}: must be {' or '.join(ACTIVATIONS)}")
    end = text["eos_token_id"]
    if not isinstance(end, int):
        raise ValueError(f"{file}: eos_token_id = {end!r}: must be an integer")
    projects = PROJECTION in tensors or bool(PROJECTING & set(config.get("architectures") or ()))
    return CLIPText(
        vocabulary=text["vocab_size"],
        width=text["hidden_size"],
        depth=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        hidden=text["intermediate_size"],
        positions=text["max_position_embeddings"],
        activation=text["hidden_act"],
        epsilon=text["layer_norm_eps"],
        end_token=None if end == LEGACY_END else end,
        projection=config.get("projection_dim", DEFAULTS["projection_dim"]) if projects else None,
    )


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    if config["model_type"] == "clip_text_model":
        return config
    # The oldest files have a second copy, which `transformers` prefers.
    preferred = config.get("text_config_dict")
    return (config.get("text_config") or {}) if preferred is None else preferred


def _names(prefix: str) -> dict[str, str]:
    """`NAMES` with the prefix, which all names but the projection's start with."""
    first = {part: prefix + NAMES[part] for part in ("token_embedding", "position_embedding", "final_norm")}
    return (
        NAMES
        | first
        | {"block_": prefix + "encoder.layers.", "projection": PROJECTION.removesuffix(".weight")}
    )
