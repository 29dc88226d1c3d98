"""CLIP's text encoder from a folder on disk.

Of `transformers`: a CLIPTextModel, CLIPTextModelWithProjection or CLIPModel; or of `diffusers`: a pipeline
such as Stable Diffusion.
"""

from collections.abc import Container
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.clip_text import ACTIVATIONS, CLIPText
from jaxflow.pretrained import vocabularies
from jaxflow.pretrained.folders import Folder, locate, read_json
from jaxflow.pretrained.tensors import find_tensors, read_params
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
"""What a config.json means by leaving a number out."""

LEGACY_END = 2
"""As eos_token_id in the first files; it never was the end token's id, which is the largest of a text."""

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
"""Names of the module to those of the file, behind the prefix that all but the projection may have."""


def load(
    folder: Folder,
    max_length: int | None = None,
    *,
    subfolder: str | None = None,
    skip: int = 0,
    final_norm: bool = True,
    dtype: str = "float32",
) -> PretrainedText:
    """Read a text encoder with its tokenizer.

    Args:
        folder: of the encoder, or of a pipeline.
        max_length: tokens of a prompt, with start and end; if left out the model's own, mostly 77.
        subfolder: which encoder of a pipeline, such as text_encoder_2; text_encoder if left out.
        skip: number of last blocks that the tokens leave out; Stable Diffusion XL has 1.
        final_norm: whether the tokens pass the final normalisation; in Stable Diffusion XL they do not.
        dtype: compute type, float32 or bfloat16.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: what a file holds is no CLIP text encoder or does not fit; the message names it.
    """
    folders = locate(folder, subfolder)
    tensors = find_tensors(folders.encoder)
    config = folders.encoder / "config.json"
    network = network_of(config, tensors).clone(skip=skip, final_norm=final_norm, dtype=dtype)
    words = vocabularies.read_clip(folders.tokenizer)
    max_length = network.positions if max_length is None else max_length
    if max_length > network.positions:
        raise ValueError(f"max_length = {max_length}: the model has positions for {network.positions} tokens")
    if network.end_token not in (None, words.end):
        raise ValueError(
            f"{config}: eos_token_id = {network.end_token}, the tokenizer's end token is {words.end}"
        )
    check_fit(network, words, max_length)
    prefix = "text_model." if any(name.startswith("text_model.") for name in tensors) else ""
    ids = jax.ShapeDtypeStruct((1, max_length), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), ids)["params"]
    params = read_params(tensors, shapes, _names(prefix), prefix + "encoder.layers.")
    return PretrainedText(network, params, words, max_length)


def network_of(file: Path, tensors: Container[str]) -> CLIPText:
    """The module that a config.json describes.

    Args:
        file: the config.json.
        tensors: names of the weights; there is a projection if they, or the class of the model, have one.

    Raises:
        ValueError: it is not that of a CLIP text encoder.
    """
    config = read_json(file)
    if config.get("model_type") not in ("clip", "clip_text_model"):
        raise ValueError(
            f"{file}: model_type = {config.get('model_type')!r}: read are clip and clip_text_model"
        )
    text = DEFAULTS | _text_config(config)
    if text["hidden_act"] not in ACTIVATIONS:
        raise ValueError(f"{file}: hidden_act = {text['hidden_act']!r}: read are {', '.join(ACTIVATIONS)}")
    end = text["eos_token_id"]
    if not isinstance(end, int):
        raise ValueError(f"{file}: eos_token_id = {end!r}: one number is needed")
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
    # The first files have it twice, and then `transformers` reads this one alone.
    twice = config.get("text_config_dict")
    return (config.get("text_config") or {}) if twice is None else twice


def _names(prefix: str) -> dict[str, str]:
    """The prefix comes before the first part of a name, and not before the projection's."""
    first = {part: prefix + NAMES[part] for part in ("token_embedding", "position_embedding", "final_norm")}
    return (
        NAMES
        | first
        | {"block_": prefix + "encoder.layers.", "projection": PROJECTION.removesuffix(".weight")}
    )
