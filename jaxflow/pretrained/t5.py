"""T5's encoder from a folder on disk.

The folder holds a T5EncoderModel or T5ForConditionalGeneration of `transformers`, or a pipeline of
`diffusers`, such as Stable Diffusion 3.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.t5 import FEED_FORWARDS, T5Encoder
from jaxflow.pretrained import vocabularies
from jaxflow.pretrained.folders import Folder, locate, read_json
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params
from jaxflow.pretrained.text import PretrainedText, check_fit

DEFAULTS: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 512,
    "num_layers": 6,
    "num_heads": 8,
    "d_kv": 64,
    "d_ff": 2048,
    "feed_forward_proj": "relu",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
"""Defaults for keys that a config.json omits."""

NAMES = {
    "block_": "encoder.block.",
    "relative_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "final_norm": "encoder.final_layer_norm",
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "attention": "layer.0.SelfAttention",
    "query": "q",
    "key": "k",
    "value": "v",
    "out": "o",
    "feed_forward": "layer.1.DenseReluDense",
    "gate": "wi_0",
    "down": "wo",
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
}
"""Names in the module -> names in the file."""


def load(
    folder: Folder,
    max_length: int,
    *,
    subfolder: str | None = None,
    attend_padding: bool = False,
    dtype: str = "float32",
) -> PretrainedText:
    """Read an encoder and its tokenizer; its embeddings have no `pooled` and no `projected`.

    Args:
        folder: folder of the encoder, or of a pipeline.
        max_length: tokens per prompt, including the end token; T5 has no limit of its own.
        subfolder: encoder of a pipeline, such as text_encoder_3; text_encoder by default.
        attend_padding: whether tokens attend to the padding.
        dtype: of the parameters and the computation, float32 or bfloat16.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file is not that of a T5 encoder, or does not match the others; the message names it.
    """
    folders = locate(folder, subfolder)
    tensors = find_tensors(folders.encoder)
    network = network_of(folders.encoder / "config.json").clone(dtype=dtype)
    words = vocabularies.read_t5(folders.tokenizer)
    check_fit(network, words, max_length)
    ids, mask = (jax.ShapeDtypeStruct((1, max_length), kind) for kind in (jnp.int32, jnp.bool))
    shapes = jax.eval_shape(network.init, jax.random.key(0), ids, mask)["params"]
    name = partial(name_of, names=_names(network, tensors))
    params = read_params(tensors, shapes, name, NAMES["block_"], dtype)
    return PretrainedText(network, params, words, max_length, attend_padding)


def network_of(file: Path) -> T5Encoder:
    """The module that a config.json describes.

    Raises:
        ValueError: it does not describe a T5.
    """
    config = read_json(file)
    if config.get("model_type") != "t5":
        raise ValueError(f"{file}: model_type = {config.get('model_type')!r}: must be t5")
    text = DEFAULTS | config
    if text["feed_forward_proj"] not in FEED_FORWARDS:
        raise ValueError(
            f"{file}: feed_forward_proj = {text['feed_forward_proj']!r}: must be {' or '.join(FEED_FORWARDS)}"
        )
    return T5Encoder(
        vocabulary=text["vocab_size"],
        width=text["d_model"],
        depth=text["num_layers"],
        heads=text["num_heads"],
        head_width=text["d_kv"],
        hidden=text["d_ff"],
        feed_forward=text["feed_forward_proj"],
        buckets=text["relative_attention_num_buckets"],
        max_distance=text["relative_attention_max_distance"],
        epsilon=text["layer_norm_epsilon"],
    )


def _names(network: T5Encoder, tensors: Container[str]) -> dict[str, str]:
    # The token embedding is one matrix with two names; a file may use either.
    embedding = "shared" if "shared.weight" in tensors else "encoder.embed_tokens"
    return NAMES | {"token_embedding": embedding, "up": "wi" if network.feed_forward == "relu" else "wi_1"}
