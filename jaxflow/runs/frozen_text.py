"""Captions as embeddings of a pretrained text encoder that is not trained further.

The embeddings of a data set are computed once and kept in a folder; training reads them with the images.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxflow import nn
from jaxflow.data.conditions import Captions
from jaxflow.data.dataset import Dataset
from jaxflow.pretrained import clip, t5
from jaxflow.pretrained.cache import cached
from jaxflow.pretrained.folders import locate, read_json
from jaxflow.pretrained.text import Embeddings, PretrainedText

T5_LENGTH = 77
"""Tokens that are read of a prompt by T5, which has no greatest length of its own."""


@dataclass(frozen=True)
class FrozenText:
    """y is the caption's tokens, their mask and one vector, `nn.Sequence`; null is the empty caption's.

    Attributes:
        folder: of the encoder's weights and tokenizer.
    """

    folder: str

    @cached_property
    def encoder(self) -> PretrainedText:
        """The encoder, read at the first call.

        Raises:
            FileNotFoundError: a file of it is missing.
            ValueError: it is no CLIP or T5 encoder.
        """
        config = read_json(locate(self.folder).encoder / "config.json")
        is_t5 = config.get("model_type") == "t5"
        return t5.load(self.folder, T5_LENGTH) if is_t5 else clip.load(self.folder)

    @cached_property
    def null(self) -> nn.Sequence:
        """The empty caption."""
        with jax.ensure_compile_time_eval():  # it may be asked for while a program is traced
            return self.encode("")

    def of(self, example: Mapping[str, Any]) -> nn.Sequence:
        """The condition y of an example of `with_embeddings`."""
        return example["text"]

    def encode(self, caption: str) -> nn.Sequence:
        """The condition y of one caption."""
        return _row(self.encoder.encode([caption]), 0)

    def check(self, prompt: str) -> None:
        """Refuse a prompt that is too long to be read whole.

        Raises:
            ValueError: it would be cut; the message says where.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.encoder.tokenizer([prompt], self.encoder.max_length)
            except UserWarning as warning:
                raise ValueError(str(warning)) from None


class _WithText:
    """A source whose examples have their caption's embeddings beside them."""

    def __init__(self, source: Any, embeddings: Embeddings):
        self._source, self._embeddings = source, embeddings
        self.notes = getattr(source, "notes", ())

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: Any) -> dict[str, Any]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        examples = self._source.__getitems__(positions)
        return [e | {"text": _row(self._embeddings, i)} for e, i in zip(examples, positions, strict=True)]


def with_embeddings(dataset: Dataset, text: FrozenText, cache: Path) -> Dataset:
    """The data set with y the embeddings of its captions, which are computed once and kept below `cache`.

    Raises:
        ValueError: its images have no captions.
    """
    if not isinstance(dataset.condition, Captions):
        raise ValueError(f"text_encoder = {text.folder}: the images have classes, not captions")
    # What is said of a folder's pictures is known without reading them again.
    captions = [example["caption"] for example in getattr(dataset.source, "said", dataset.source)]
    return Dataset(
        _WithText(dataset.source, cached(text.encoder, captions, cache)), dataset.image_shape, text
    )


def _row(embeddings: Embeddings, i: int) -> nn.Sequence:
    tokens, mask = embeddings.tokens[i], embeddings.mask[i]
    if embeddings.pooled is None:  # T5
        pooled = np.mean(tokens[mask], axis=0, dtype=np.float32)
    else:
        pooled = embeddings.pooled[i]
    as_float = lambda a: np.asarray(a, np.float32)  # noqa: E731
    return nn.Sequence(as_float(tokens), np.asarray(mask), as_float(pooled))  # type: ignore[arg-type]
