"""Tokenise prompts to ids of one length."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import tokenizers
from jaxtyping import Bool, Int32


@dataclass(frozen=True)
class Tokenizer:
    """Prompts -> ids and their mask, (b, max_length) each.

    Attributes:
        backend: splits a text into tokens and appends the end token.
        end: id of the end token, which truncated prompts keep.
        padding: id of the padding token, which is masked.
    """

    backend: tokenizers.Tokenizer
    end: int
    padding: int

    def __call__(
        self, prompts: Sequence[str], max_length: int
    ) -> tuple[Int32[np.ndarray, "b n"], Bool[np.ndarray, "b n"]]:
        """Tokenise; warns about each truncated prompt, with the part that is lost.

        Raises:
            ValueError: `prompts` is empty, or a single string.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts = {prompts!r}: expected a list of at least one string")
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
            f" {cut!r} is ignored",
            stacklevel=4,  # the caller of `PretrainedText.encode`
        )
        return [*encoding.ids[: max_length - 1], self.end]
