"""A pipeline of diffusers as a model like any other: every rule, solver and sweep works on it.

DiTPipeline                DiT: classes of ImageNet, in the latents of Stable Diffusion
StableDiffusionPipeline    Stable Diffusion 1 and 2: prompts; null is the empty one
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from jaxflow.data.codecs import Classes, Codec
from jaxflow.fields import Apply
from jaxflow.nn.attributes import Dtype
from jaxflow.pretrained import autoencoders, dit, schedulers, stable_unet
from jaxflow.pretrained.folders import read_json
from jaxflow.pretrained.tensors import find_tensors
from jaxflow.ranges import quoted
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.runs.model import Model
from jaxflow.spaces import Latents
from jaxflow.training.step import Params

INDEX = "model_index.json"
"""Of a folder that is a pipeline."""


def load(folder: Path, dtype: Dtype = "float32") -> Model:
    """The model of a pipeline, on one device.

    Args:
        folder: of the pipeline.
        dtype: of the network's parameters and computation; text encoder and autoencoder are float32.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is another pipeline, or a file is damaged; the message names it.
    """
    index = read_json(folder / INDEX)
    kind = index.get("_class_name")
    if kind not in KINDS:
        raise ValueError(f"{folder} is a pipeline {quoted(kind)}: must be one of {', '.join(KINDS)}")
    schedule = schedulers.read(folder / "scheduler")
    parts = KINDS[kind](folder, index, dtype)

    def network(params: Params, x: Any, t: Any, y: Any) -> Any:
        # At timestep k, which is our t = 1 - (k + 1) / steps.
        return parts.network(params, x, (schedule.steps * (1 - t) - 1) / 1000, y)

    space = space_of(folder, parts.file)
    return Model(network, parts.params, schedule.path, schedule.prediction, parts.codec, space)


class Parts(NamedTuple):
    """What each kind of pipeline has of its own."""

    file: Path
    """The network's config.json."""
    network: Apply
    params: Params
    codec: Codec


def of_dit(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a DiTPipeline."""
    file = folder / "transformer" / "config.json"
    heads = read_json(file).get("num_attention_heads")
    network, params, classes = dit.read(find_tensors(file.parent), heads, dtype)

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        return network.apply({"params": params}, x, t, y)

    return Parts(file, apply, params, Classes(names_of(index, classes)))


def of_stable_diffusion(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a StableDiffusionPipeline, whose U-Net attends to all tokens of a prompt, the padding too."""
    file = folder / "unet" / "config.json"
    network, params = stable_unet.read(find_tensors(file.parent), file, read_json(file), dtype)

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        return network.apply({"params": params}, x, t, y.tokens)

    codec = FrozenText(str(folder.absolute()))
    _ = codec.encoder  # a missing file shows now
    return Parts(file, apply, params, codec)


KINDS = {"DiTPipeline": of_dit, "StableDiffusionPipeline": of_stable_diffusion}
"""By the class in the index."""


def space_of(folder: Path, file: Path) -> Latents:
    """The latents of the pipeline's autoencoder, scaled as published, of the size in the network's file.

    Raises:
        ValueError: a configuration has no scale, or no size.
    """
    autoencoder, side = autoencoders.load(folder), read_json(file).get("sample_size")
    if type(side) is not int or side < 1:
        raise ValueError(f"{file}: sample_size = {quoted(side)}: expected a number")
    pixels = side * autoencoder.network.factor
    return Latents.as_published((pixels, pixels, autoencoder.network.image_channels), autoencoder)


def names_of(index: dict[str, Any], classes: int) -> tuple[str, ...]:
    """The first of each class's names, with its number where several classes have it; or the numbers.

    >>> names_of({"id2label": {"0": "tench, Tinca tinca", "1": "crane", "2": "crane"}}, 3)
    ('tench', 'crane 1', 'crane 2')
    """
    labels = index.get("id2label")
    if not isinstance(labels, dict):
        return tuple(map(str, range(classes)))
    names = [str(labels.get(str(i), i)).partition(",")[0].strip() for i in range(classes)]
    number = Counter(names)
    return tuple(f"{name} {i}" if number[name] > 1 else name for i, name in enumerate(names))
