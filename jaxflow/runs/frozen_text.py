"""Captions as embeddings from a frozen, pretrained text encoder.

The embeddings of a data set are computed once and cached in a folder; training reads them with the images.
"""

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxflow import nn
from jaxflow.data.codecs import MOST_PROMPT, Captions
from jaxflow.data.dataset import Dataset
from jaxflow.data.mapped import Mapped
from jaxflow.nn.attributes import Dtype
from jaxflow.pretrained import joint_text
from jaxflow.pretrained.embeddings import cached
from jaxflow.pretrained.text import Embeddings, TextEncoder
from jaxflow.ranges import quoted


@dataclass(frozen=True)
class FrozenText:
    """y is the caption's tokens, their mask and one vector, `nn.TokenSequence`; null is the empty caption's.

    Attributes:
        folder: with the encoder's weights and tokenizer; or a pipeline with one encoder or several.
        dtype: of the encoder.
    """

    folder: str
    dtype: Dtype = "float32"

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder, loaded at the first call.

        Raises:
            FileNotFoundError: one of its files is missing.
            ValueError: it is not a CLIP or T5 encoder.
        """
        return joint_text.load(self.folder, self.dtype)

    @cached_property
    def null(self) -> nn.TokenSequence:
        """The empty caption."""
        # May be called during tracing, of which another thread knows nothing. (Under compile-time evaluation
        # Flax would draw initial parameters, to compare their shapes.)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self.encode, "").result()

    def of(self, example: Mapping[str, Any]) -> nn.TokenSequence:
        """The condition y of an example of `with_embeddings`."""
        return example["text"]

    def encode(self, prompt: Any) -> nn.TokenSequence:
        """The condition y of a prompt; it is never truncated.

        Raises:
            ValueError: it is not a string, or too long; the message says where it would be cut.
        """
        if not isinstance(prompt, str):
            raise ValueError(f"prompt = {quoted(prompt)}: must be a string")
        if len(prompt) > MOST_PROMPT:
            raise ValueError(f"prompt of {len(prompt):,} characters: must be at most {MOST_PROMPT:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return _row(self.encoder.encode([prompt]), 0)
            except UserWarning as warning:
                raise ValueError(str(warning)) from None


def with_embeddings(dataset: Dataset, text: FrozenText, cache: Path) -> Dataset:
    """The data set with the embeddings of its captions as y, computed once and cached in the folder `cache`.

    Raises:
        ValueError: the images have no captions.
    """
    if not isinstance(dataset.codec, Captions):
        raise ValueError(f"text_encoder = {text.folder}: the images have classes, not captions")
    # The captions of a folder are known without reading its images again.
    captions = [example["caption"] for example in getattr(dataset.source, "said", dataset.source)]
    embeddings = cached(text.encoder, captions, cache)
    source = Mapped(dataset.source, lambda i, example: {**example, "text": _row(embeddings, i)})
    return replace(dataset, source=source, codec=text)


def _row(embeddings: Embeddings, i: int) -> nn.TokenSequence:
    tokens, mask = embeddings.tokens[i], embeddings.mask[i]
    if embeddings.pooled is None:  # T5
        pooled = np.mean(tokens[mask], axis=0, dtype=np.float32)
    else:
        pooled = embeddings.pooled[i]
    as_float = lambda a: np.asarray(a, np.float32)  # noqa: E731
    return nn.TokenSequence(as_float(tokens), np.asarray(mask), as_float(pooled))  # type: ignore[arg-type]
