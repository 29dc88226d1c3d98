"""The text encoders of a pipeline, joined as its network reads them.

StableDiffusionXLPipeline   tokens: both CLIPs side by side; pooled: the second's projection
StableDiffusion3Pipeline    tokens: both CLIPs side by side, padded with zeros to T5's width, then T5's;
                            pooled: the projections of both
FluxPipeline                tokens: T5's; pooled: CLIP's

CLIP's tokens are those of the last block but one, before the final norm, except in FLUX, which has none of
them. T5 attends to its padding, as in training. Any other folder has one encoder, whose features are used as
they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxflow.nn.attributes import Dtype
from jaxflow.pretrained import clip, t5
from jaxflow.pretrained.folders import INDEX, Folder, count, locate, read_json
from jaxflow.pretrained.text import Embeddings, PretrainedText, TextEncoder

T5_LENGTH, SD3_LENGTH, FLUX_LENGTH = 77, 256, 512
"""Tokens of a prompt for T5, which has no maximum length of its own: alone, and in these pipelines."""


def load(folder: Folder, dtype: Dtype = "float32") -> TextEncoder:
    """The text encoder of a folder, or the joined ones of a pipeline.

    Args:
        folder: folder of an encoder, or of a pipeline.
        dtype: of the parameters and the computation.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is not a CLIP or T5 encoder, or a file is damaged.
    """
    file = Path(folder) / INDEX
    index = read_json(file) if file.is_file() else {}
    match index.get("_class_name"):
        case "StableDiffusionXLPipeline":
            return TwoCLIPs(*_two(folder, dtype), zeros=bool(index.get("force_zeros_for_empty_prompt", True)))
        case "StableDiffusion3Pipeline":
            has_t5 = (Path(folder) / "text_encoder_3").is_dir()  # without it, less memory
            last = _t5(folder, "text_encoder_3", SD3_LENGTH, dtype) if has_t5 else None
            place = Path(folder) / "transformer" / "config.json"
            width = count(place, read_json(place), "joint_attention_dim")
            return TwoCLIPsAndT5(*_two(folder, dtype), last, width)
        case "FluxPipeline":
            return CLIPAndT5(
                clip.load(folder, dtype=dtype), _t5(folder, "text_encoder_2", FLUX_LENGTH, dtype)
            )
    config = read_json(locate(folder).encoder / "config.json")
    is_t5 = config.get("model_type") == "t5"
    return t5.load(folder, T5_LENGTH, dtype=dtype) if is_t5 else clip.load(folder, dtype=dtype)


def _two(folder: Folder, dtype: Dtype) -> tuple[PretrainedText, PretrainedText]:
    first, second = (
        clip.load(folder, subfolder=name, skip=1, final_norm=False, dtype=dtype)
        for name in ("text_encoder", "text_encoder_2")
    )
    return first, second


def _t5(folder: Folder, subfolder: str, length: int, dtype: Dtype) -> PretrainedText:
    return t5.load(folder, length, subfolder=subfolder, attend_padding=True, dtype=dtype)


@dataclass(frozen=True)
class TwoCLIPs:
    """Of Stable Diffusion XL.

    Attributes:
        first: CLIP.
        second: CLIP with a projection.
        zeros: whether all features of an empty prompt are zero.
    """

    first: PretrainedText
    second: PretrainedText
    zeros: bool

    @property
    def parts(self) -> tuple[PretrainedText, ...]:
        """The encoders."""
        return self.first, self.second

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts."""
        one, other = (part.encode(prompts) for part in self.parts)
        kept = np.array([bool(prompt) or not self.zeros for prompt in prompts])
        tokens = np.concatenate([one.tokens, other.tokens], axis=-1) * kept[:, None, None]
        return Embeddings(tokens, one.mask, _projected(other) * kept[:, None])


@dataclass(frozen=True)
class TwoCLIPsAndT5:
    """Of Stable Diffusion 3.

    Attributes:
        first: CLIP with a projection.
        second: the same.
        third: T5; None to save its memory, its tokens then are zeros.
        width: of the tokens.
    """

    first: PretrainedText
    second: PretrainedText
    third: PretrainedText | None
    width: int

    @property
    def parts(self) -> tuple[PretrainedText, ...]:
        """The encoders."""
        return (self.first, self.second, *([] if self.third is None else [self.third]))

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts."""
        one, other = self.first.encode(prompts), self.second.encode(prompts)
        both = np.concatenate([one.tokens, other.tokens], axis=-1)
        padded = np.pad(both, ((0, 0), (0, 0), (0, self.width - both.shape[-1])))
        if self.third is None:
            shape = (len(padded), SD3_LENGTH)
            last = Embeddings(np.zeros((*shape, self.width), np.float32), np.zeros(shape, bool))
        else:
            last = self.third.encode(prompts)
        return Embeddings(
            np.concatenate([padded, last.tokens], axis=1),
            np.concatenate([one.mask, last.mask], axis=1),
            np.concatenate([_projected(one), _projected(other)], axis=-1),
        )


@dataclass(frozen=True)
class CLIPAndT5:
    """Of FLUX.1.

    Attributes:
        first: CLIP.
        second: T5.
    """

    first: PretrainedText
    second: PretrainedText

    @property
    def parts(self) -> tuple[PretrainedText, ...]:
        """The encoders."""
        return self.first, self.second

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """The embeddings of prompts."""
        tokens = self.second.encode(prompts)
        return tokens._replace(pooled=self.first.encode(prompts).pooled)


def _projected(embeddings: Embeddings) -> Any:
    if embeddings.projected is None:
        raise ValueError("the CLIP text encoder has no text_projection, which the pipeline requires")
    return embeddings.projected
