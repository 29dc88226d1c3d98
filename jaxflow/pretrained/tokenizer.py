"""Prompts as token ids of one length."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import tokenizers
from jaxtyping import Bool, Int32


@dataclass(frozen=True)
class Tokenizer:
    """Prompts -> ids and which of them count, (b, max_length) each.

    Attributes:
        backend: splits a text, and puts the end token behind it.
        end: id of the end token, which a cut prompt keeps.
        padding: id that fills a prompt up; it does not count.
    """

    backend: tokenizers.Tokenizer
    end: int
    padding: int

    def __call__(
        self, prompts: Sequence[str], max_length: int
    ) -> tuple[Int32[np.ndarray, "b n"], Bool[np.ndarray, "b n"]]:
        """Warns of each prompt that is cut, with the part of it that is not read.

        Raises:
            ValueError: `prompts` is empty, or one string.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts = {prompts!r}: a list of at least one string is needed")
        rows = list(map(self._row, prompts, repeat(max_length)))
        mask = np.arange(max_length)[None] < np.array([len(row) for row in rows])[:, None]
        padded = [row + [self.padding] * (max_length - len(row)) for row in rows]
        return np.array(padded, np.int32), mask

    def _row(self, prompt: str, max_length: int) -> list[int]:
        encoding = self.backend.encode(prompt)
        if len(encoding.ids) <= max_length:
            return encoding.ids
        cut = prompt[encoding.offsets[max_length - 1][0] :]
        warnings.warn(
            f"prompt {prompt!r} has {len(encoding.ids)} tokens, max_length = {max_length}:"
            f" {cut!r} is not read",
            stacklevel=4,  # the caller of `PretrainedText.encode`
        )
        return [*encoding.ids[: max_length - 1], self.end]
