"""The features of published networks, from a folder on disk: CLIP, with its texts, DINOv2 or Inception-v3."""

import os
from typing import NamedTuple

from jaxflow.places import place
from jaxflow.pretrained import clip, clip_images, dinov2, inception
from jaxflow.pretrained.folders import read_json
from jaxflow.pretrained.images import PretrainedImages
from jaxflow.pretrained.text import PretrainedText
from jaxflow.ranges import quoted

KINDS = (*clip_images.KINDS, "dinov2")


class Extractor(NamedTuple):
    """A frozen network that sees images."""

    images: PretrainedImages
    text: PretrainedText | None = None
    """The encoder of texts into the same space; None if there is none."""


def load(folder: str | os.PathLike) -> Extractor:
    """Read the network in a folder of `transformers`; without a config.json it is Inception-v3.

    Raises:
        FileNotFoundError: the folder or a file in it is missing; the message names it.
        ValueError: it is of another kind, or its files do not match; the message names the file.
    """
    root = place(folder, "features")
    if not root.is_dir():
        raise FileNotFoundError(
            f"features = {str(root)!r} does not exist: put the network there, nothing is downloaded"
        )
    file = root / "config.json"
    if not file.is_file():
        return Extractor(inception.load(root))
    kind = read_json(file).get("model_type")
    if kind not in KINDS:
        raise ValueError(f"{file}: model_type = {quoted(kind)}: must be one of {', '.join(KINDS)}")
    if kind == "dinov2":
        return Extractor(dinov2.load(root))
    return Extractor(clip_images.load(root), clip.load(root) if kind == "clip" else None)
