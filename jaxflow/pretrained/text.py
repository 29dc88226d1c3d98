"""A frozen text encoder with its weights and tokenizer: prompts in, arrays out."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from jaxflow.nn import attributes
from jaxflow.nn.clip_text import CLIPText, TextFeatures
from jaxflow.nn.t5 import T5Encoder
from jaxflow.pretrained.tokenizer import Tokenizer

BLOCK = 32
DTYPES = ("float32", "bfloat16")


class Embeddings(NamedTuple):
    """What an encoder makes of b prompts, on the host; None is what it does not give."""

    tokens: Float[np.ndarray, "b n c"]
    mask: Bool[np.ndarray, "b n"]
    """Which tokens count: those of the text, with start and end; what pads it does not."""
    pooled: Float[np.ndarray, "b c"] | None = None
    """The prompt as one vector."""
    projected: Float[np.ndarray, "b p"] | None = None
    """`pooled` in the space that CLIP shares between texts and images."""


@dataclass(frozen=True)
class PretrainedText:
    """A text encoder that is not trained.

    Attributes:
        network: the module.
        params: its parameters, float32.
        tokenizer: prompts -> ids.
        max_length: tokens of a prompt, with start and end; a longer one is cut, a shorter one filled up.
    """

    network: CLIPText | T5Encoder
    params: Any
    tokenizer: Tokenizer
    max_length: int

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts, float32, in blocks of 32 on the device.

        Raises:
            ValueError: `prompts` is empty, or one string.
        """
        ids, mask = self.tokenizer(prompts, self.max_length)
        # Accelerators would round the factors of float32 products to 8 or 11 bits.
        precision = "highest" if self.network.dtype == "float32" else "default"
        with jax.default_matmul_precision(precision):
            blocks = [self._block(ids[i : i + BLOCK], mask[i : i + BLOCK]) for i in range(0, len(ids), BLOCK)]
        features = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
        return Embeddings(features.tokens, mask, features.pooled, features.projected)

    def _block(self, ids: Int32[np.ndarray, "b n"], mask: Bool[np.ndarray, "b n"]) -> TextFeatures:
        # Filled up to a power of two with its last prompt: six sizes at most are compiled.
        extra = ((0, (1 << (len(ids) - 1).bit_length()) - len(ids)), (0, 0))
        padded = (np.pad(part, extra, mode="edge") for part in (ids, mask))
        features = _features(self.network, self.params, *padded)
        return jax.tree.map(lambda array: np.asarray(array)[: len(ids)], features)


@functools.partial(jax.jit, static_argnums=0)
def _features(
    network: CLIPText | T5Encoder, params: Any, ids: Int32[Array, "b n"], mask: Bool[Array, "b n"]
) -> Any:
    if isinstance(network, CLIPText):
        return network.apply({"params": params}, ids)
    return TextFeatures(network.apply({"params": params}, ids, mask))  # type: ignore[arg-type]


def check_fit(network: CLIPText | T5Encoder, tokenizer: Tokenizer, max_length: int) -> None:
    """Refuse parts that do not fit each other, before any weights are read.

    Raises:
        ValueError: an attribute is out of bounds; no such compute type; no room for start and end; ids beyond
            the vocabulary.
    """
    attributes.check(network)
    if network.dtype not in DTYPES:
        raise ValueError(f"dtype = {network.dtype!r}: there are {', '.join(DTYPES)}")
    if max_length < 2:
        raise ValueError(f"max_length = {max_length}: start and end take two tokens")
    ids = 1 + max(tokenizer.backend.get_vocab(with_added_tokens=True).values())
    if ids > network.vocabulary:
        raise ValueError(
            f"vocab_size = {network.vocabulary} of config.json is below the tokenizer's {ids} ids"
        )
