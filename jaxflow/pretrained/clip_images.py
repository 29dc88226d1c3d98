"""CLIP's image encoder from a folder on disk.

The folder holds a CLIPModel, CLIPVisionModelWithProjection or CLIPVisionModel of `transformers`, with its
preprocessor_config.json. Features are the projections into the joint space of texts and images, as they are
(not of unit length); of a CLIPVisionModel, which has none, the pooled states.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.pre_norm import ACTIVATIONS
from jaxflow.nn.vision import VisionTransformer
from jaxflow.pretrained import clip, preprocessing
from jaxflow.pretrained.folders import check_attributes, count, read_json
from jaxflow.pretrained.images import PretrainedImages
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params, shapes_of
from jaxflow.ranges import quoted

KINDS = ("clip", "clip_vision_model")
DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 512,
}
"""Defaults for keys that a config.json omits."""
PROJECTION = "visual_projection.weight"
NAMES = clip.NAMES | {
    "class_embedding": "embeddings.class_embedding",
    "patch_embedding": "embeddings.patch_embedding",
    "position_embedding": "embeddings.position_embedding.weight",
    "first_norm": "pre_layrnorm",
    "final_norm": "post_layernorm",
}
"""Names in the module -> names in the file, without the prefix that all but the projection may have."""


def load(folder: Path) -> PretrainedImages:
    """Read an image encoder and its preprocessing.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file is not that of a CLIP image encoder, or does not match the others; the message
            names it.
    """
    tensors, file = find_tensors(folder), folder / "config.json"
    network = network_of(file, tensors)
    prepare, expected = preprocessing.read(folder), network.patch * network.grid
    if prepare.side != expected:
        raise ValueError(
            f"{folder / preprocessing.FILE}: crop_size = {prepare.side}: must be the image size of"
            f" config.json, {expected}"
        )
    inputs = jax.ShapeDtypeStruct((1, prepare.side, prepare.side, 3), jnp.float32)
    shapes = shapes_of(file, network, inputs)
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in tensors) else ""
    name, blocks = partial(name_of, names=_names(prefix)), prefix + "encoder.layers."
    params = read_params(tensors, shapes, name, blocks)
    return PretrainedImages(network, params, prepare, "CLIP")


def network_of(file: Path, tensors: Container[str]) -> VisionTransformer:
    """The module that a config.json describes.

    Args:
        file: the config.json.
        tensors: names of the weights; the module has a projection if these have one.

    Raises:
        ValueError: it does not describe a CLIP image encoder.
    """
    config = read_json(file)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ValueError(f"{file}: model_type = {kind!r}: must be {' or '.join(KINDS)}")
    vision = DEFAULTS | (config if kind == "clip_vision_model" else _vision_config(file, config))
    if vision["hidden_act"] not in tuple(ACTIVATIONS):
        raise ValueError(f"{file}: hidden_act = {vision['hidden_act']!r}: must be {' or '.join(ACTIVATIONS)}")
    patch, side = (count(file, vision, name) for name in ("patch_size", "image_size"))
    projects = count(file, config, "projection_dim", DEFAULTS["projection_dim"])
    network = VisionTransformer(
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        hidden=vision["intermediate_size"],
        patch=patch,
        grid=side // patch,
        activation=vision["hidden_act"],
        epsilon=vision["layer_norm_eps"],
        projection=projects if PROJECTION in tensors else None,
    )
    check_attributes(file, network)
    return network


def _vision_config(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    # The oldest files have a second copy, which `transformers` prefers.
    preferred = config.get("vision_config_dict")
    found = (config.get("vision_config") or {}) if preferred is None else preferred
    if not isinstance(found, dict):
        raise ValueError(f"{file}: vision_config = {quoted(found)}: expected an object")
    return found


def _names(prefix: str) -> dict[str, str]:
    own = ("class_embedding", "patch_embedding", "position_embedding", "first_norm", "final_norm")
    return (
        NAMES
        | {part: prefix + NAMES[part] for part in own}
        | {"block_": prefix + "encoder.layers.", "projection": PROJECTION.removesuffix(".weight")}
    )
