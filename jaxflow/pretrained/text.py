"""A frozen text encoder with its weights and tokenizer: prompts in, embeddings out."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

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
    """Embeddings of b prompts, on the host; None where the encoder has no such output."""

    tokens: Float[np.ndarray, "b n c"]
    mask: Bool[np.ndarray, "b n"]
    """Which tokens are real: those of the text, including start and end, but not the padding."""
    pooled: Float[np.ndarray, "b c"] | None = None
    """One vector per prompt."""
    projected: Float[np.ndarray, "b p"] | None = None
    """`pooled` in CLIP's joint space of texts and images."""


@runtime_checkable
class TextEncoder(Protocol):
    """One frozen text encoder, or several that are joined."""

    @property
    def parts(self) -> "tuple[PretrainedText, ...]":
        """The encoders."""
        ...

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts, float32."""
        ...


@dataclass(frozen=True)
class PretrainedText:
    """A frozen text encoder.

    Attributes:
        network: the module.
        params: its parameters.
        tokenizer: prompts -> ids.
        max_length: tokens per prompt, including start and end; prompts are truncated or padded to it.
        attend_padding: whether T5 attends to the padding, as in Stable Diffusion 3.
    """

    network: CLIPText | T5Encoder
    params: Any
    tokenizer: Tokenizer
    max_length: int
    attend_padding: bool = False

    @property
    def parts(self) -> "tuple[PretrainedText, ...]":
        """Itself."""
        return (self,)

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts, float32, in blocks of 32 on the device.

        Raises:
            ValueError: `prompts` is empty, or a single string.
        """
        ids, mask = self.tokenizer(prompts, self.max_length)
        # By default, accelerators round the factors of float32 products to 8 or 11 bits.
        precision = "highest" if self.network.dtype == "float32" else "default"
        # With 16-bit parameters Flax's norms mix types.
        with jax.default_matmul_precision(precision), jax.numpy_dtype_promotion("standard"):
            blocks = [self._block(ids[i : i + BLOCK], mask[i : i + BLOCK]) for i in range(0, len(ids), BLOCK)]
        features = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
        return Embeddings(features.tokens, mask, features.pooled, features.projected)

    def _block(self, ids: Int32[np.ndarray, "b n"], mask: Bool[np.ndarray, "b n"]) -> TextFeatures:
        # Padded to a power of two with copies of the last prompt: at most six sizes are compiled.
        extra = ((0, (1 << (len(ids) - 1).bit_length()) - len(ids)), (0, 0))
        attended = np.ones_like(mask) if self.attend_padding else mask
        padded = (np.pad(part, extra, mode="edge") for part in (ids, attended))
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
    """Check that the parts fit together, before any weights are read.

    Raises:
        ValueError: an attribute is out of bounds, the compute type is unknown, max_length has no room for
            start and end, or the tokenizer has ids beyond the vocabulary.
    """
    attributes.check(network)
    if network.dtype not in DTYPES:
        raise ValueError(f"dtype = {network.dtype!r}: must be {' or '.join(DTYPES)}")
    if max_length < 2:
        raise ValueError(f"max_length = {max_length}: must be at least 2, for start and end")
    ids = 1 + max(tokenizer.backend.get_vocab(with_added_tokens=True).values())
    if ids > network.vocabulary:
        raise ValueError(
            f"config.json: vocab_size = {network.vocabulary}: must be at least the tokenizer's {ids} ids"
        )
