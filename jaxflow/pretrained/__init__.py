"""Frozen encoders of texts and images, from folders on disk in the layout of `transformers` or `diffusers`.

`clip.load` and `t5.load` return a `PretrainedText`, whose `encode` turns prompts into arrays; `cached` keeps
the embeddings of many captions on disk. `extractors.load` returns a network that turns images into features.
Nothing here opens a connection, reads a pickle or needs torch.
"""

from jaxflow.pretrained import clip, t5
from jaxflow.pretrained.embeddings import cached
from jaxflow.pretrained.text import Embeddings, PretrainedText

__all__ = ["Embeddings", "PretrainedText", "cached", "clip", "t5"]
