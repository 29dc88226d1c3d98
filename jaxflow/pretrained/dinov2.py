"""DINOv2's vision transformer from a folder on disk.

The folder holds a Dinov2Model of `transformers`, with its preprocessor_config.json. Features are the class
token after the final normalisation, as for the Frechet distance in features of DINOv2 (Stein et al.
2306.04675). Published weights have positions for 518 x 518 pixels, and a preprocessing that keeps 224 x 224:
the positions are then interpolated. Those with registers, and the largest, whose MLPs are gated, are
rejected.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.pre_norm import ACTIVATIONS
from jaxflow.nn.vision import VisionTransformer
from jaxflow.pretrained import preprocessing
from jaxflow.pretrained.folders import check_attributes, count, read_json
from jaxflow.pretrained.images import PretrainedImages
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params, shapes_of
from jaxflow.ranges import quoted

DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}
"""Defaults for keys that a config.json omits."""
BLOCKS = "encoder.layer."
NAMES = {
    "class_embedding": "embeddings.cls_token",
    "patch_embedding": "embeddings.patch_embeddings.projection",
    "position_embedding": "embeddings.position_embeddings",
    "final_norm": "layernorm",
    "block_": BLOCKS,
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "out": "output.dense",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "branch_scale1": "layer_scale1.lambda1",
    "branch_scale2": "layer_scale2.lambda1",
    "kernel": "weight",
    "scale": "weight",
}
"""Names in the module -> names in the file."""


def load(folder: Path) -> PretrainedImages:
    """Read an encoder and its preprocessing.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file is not that of a DINOv2, or does not match the others; the message names it.
    """
    tensors, file = find_tensors(folder), folder / "config.json"
    network, prepare = network_of(file), preprocessing.read(folder)
    if prepare.side % network.patch:
        raise ValueError(
            f"{folder / preprocessing.FILE}: crop_size = {prepare.side}: must be a multiple of the patch"
            f" size of config.json, {network.patch}"
        )
    inputs = jax.ShapeDtypeStruct((1, prepare.side, prepare.side, 3), jnp.float32)
    shapes = shapes_of(file, network, inputs)
    params = read_params(tensors, shapes, partial(name_of, names=NAMES), BLOCKS)
    return PretrainedImages(network, params, prepare, "DINOv2")


def network_of(file: Path) -> VisionTransformer:
    """The module that a config.json describes.

    Raises:
        ValueError: it does not describe a DINOv2 that is supported.
    """
    config = read_json(file)
    kind = config.get("model_type")
    if kind != "dinov2":
        raise ValueError(f"{file}: model_type = {kind!r}: must be dinov2")
    config = DEFAULTS | config
    for name, wanted in (("qkv_bias", True), ("use_swiglu_ffn", False)):
        if config[name] is not wanted:
            raise ValueError(f"{file}: {name} = {quoted(config[name])}: only {wanted} is supported")
    if config["hidden_act"] not in tuple(ACTIVATIONS):
        raise ValueError(f"{file}: hidden_act = {config['hidden_act']!r}: must be {' or '.join(ACTIVATIONS)}")
    if type(config["mlp_ratio"]) not in (int, float) or not 0 < config["mlp_ratio"] <= 64:
        raise ValueError(f"{file}: mlp_ratio = {quoted(config['mlp_ratio'])}: must be above 0, at most 64")
    width, patch, side = (count(file, config, name) for name in ("hidden_size", "patch_size", "image_size"))
    network = VisionTransformer(
        width=width,
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=int(width * config["mlp_ratio"]),
        patch=patch,
        grid=side // patch,
        activation=config["hidden_act"],
        epsilon=config["layer_norm_eps"],
        first_norm=False,
        patch_bias=True,
        branch_scales=True,
    )
    check_attributes(file, network)
    return network
