"""A pipeline of diffusers as a model like any other: every rule, solver and sweep works on it.

DiTPipeline                 DiT: classes of ImageNet, in the latents of Stable Diffusion
SiTPipeline                 SiT, which diffusers lacks: laid out in the same way, but for the scheduler
StableDiffusionPipeline     Stable Diffusion 1 and 2: prompts; null is the empty one
StableDiffusionXLPipeline   Stable Diffusion XL
StableDiffusion3Pipeline    Stable Diffusion 3 and 3.5
FluxPipeline                FLUX.1
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen
import jax.numpy as jnp

from jaxflow import paths
from jaxflow.data.codecs import Classes, Codec
from jaxflow.fields import Apply
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.embeddings import sinusoidal
from jaxflow.nn.flux import PATCH
from jaxflow.pretrained import autoencoders, dit, flux, schedulers, sd3, stable_unet
from jaxflow.pretrained.adapter_files import NameOf
from jaxflow.pretrained.folders import count, read_json
from jaxflow.pretrained.tensors import find_tensors
from jaxflow.ranges import quoted
from jaxflow.runs import limits
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.runs.model import Model
from jaxflow.spaces import Latents
from jaxflow.training.step import Params

INDEX = "model_index.json"
"""Of a folder that is a pipeline."""


def load(folder: Path, dtype: Dtype = "float32", size: tuple[int, int] | None = None) -> Model:
    """The model of a pipeline, on one device.

    Args:
        folder: of the pipeline.
        dtype: of network and text encoders, their parameters and computation; the autoencoder is float32.
        size: height and width of the images in pixels; by default those of the training.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is another pipeline, or a file is damaged; the message names it; or it cannot have this
            size.
    """
    parts = KINDS[kind(folder)](folder, read_json(folder / INDEX), dtype)
    space = space_of(folder, parts.file, parts.side)

    def schedule(event_shape: tuple[int, ...]) -> schedulers.Schedule:
        if parts.schedule is not None:
            return parts.schedule
        rows, columns = (side // parts.patch for side in event_shape[:2])
        return schedulers.read(folder / "scheduler", rows * columns)

    path, prediction, time, sign, shift = schedule(space.event_shape)

    def network(params: Params, x: Any, t: Any, y: Any) -> Any:
        return sign * parts.network(params, x, time(t), y)

    model = Model(network, parts.params, path, prediction, parts.codec, space, shift=shift)
    if size is None:
        return model
    model = model.resized(*size)
    return replace(model, shift=schedule(model.event_shape).shift)


def kind(folder: Path) -> str:
    """The class of a pipeline.

    Raises:
        ValueError: it is none of `KINDS`.
    """
    found = read_json(folder / INDEX).get("_class_name")
    if found not in KINDS:
        raise ValueError(f"{folder} is a pipeline {quoted(found)}: must be one of {', '.join(KINDS)}")
    return found


class Parts(NamedTuple):
    """What each kind of pipeline has of its own."""

    file: Path
    """The network's config.json."""
    network: Apply
    params: Params
    codec: Codec
    patch: int = 1
    """Side of a token in latents."""
    schedule: schedulers.Schedule | None = None
    """Of pipelines without a scheduler."""
    side: int | None = None
    """Of the latents, where the network's file has none."""


def of_dit(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a DiTPipeline."""
    file = folder / "transformer" / "config.json"
    heads = read_json(file).get("num_attention_heads")
    network, params, classes = dit.read(find_tensors(file.parent), heads, dtype)
    return Parts(file, _apply(network), params, Classes(names_of(index, classes)), network.patch)


def of_sit(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a SiTPipeline: a DiT that predicts the velocity, at the time itself, not a thousand times it."""
    schedule = schedulers.Schedule(paths.Linear(), "velocity", lambda t: t / 1000)
    return of_dit(folder, index, dtype)._replace(schedule=schedule)


def of_stable_diffusion(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a StableDiffusionPipeline, whose U-Net attends to all tokens of a prompt, the padding too."""
    file = folder / "unet" / "config.json"
    network, params = stable_unet.read(find_tensors(file.parent), file, read_json(file), dtype)

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        return network.apply({"params": params}, x, t, y.tokens)

    return Parts(file, apply, params, _codec(folder, dtype))


def of_stable_diffusion_xl(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a StableDiffusionXLPipeline, whose U-Net also knows the size of the image, here uncropped."""
    file = folder / "unet" / "config.json"
    config = read_json(file)
    network, params = stable_unet.read(find_tensors(file.parent), file, config, dtype)
    features = count(file, config, "addition_time_embed_dim")
    factor = autoencoders.load(folder).network.factor

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        h, w = (factor * side for side in x.shape[1:3])
        original, corner, target = (h, w), (0, 0), (h, w)
        numbers = jnp.array([*original, *corner, *target], jnp.float32)
        sizes = sinusoidal(numbers, features, max_period=1e4).reshape(1, -1)
        vector = jnp.concatenate([y.pooled, jnp.broadcast_to(sizes, (len(x), sizes.size))], axis=1)
        return network.apply({"params": params}, x, t, y.tokens, vector)

    return Parts(file, apply, params, _codec(folder, dtype))


def of_stable_diffusion_3(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a StableDiffusion3Pipeline: a flow, with or without T5."""
    file = folder / "transformer" / "config.json"
    network, params = sd3.read(find_tensors(file.parent), file, read_json(file), dtype)
    return Parts(file, _apply(network), params, _codec(folder, dtype), network.patch)


def of_flux(folder: Path, index: dict[str, Any], dtype: Dtype) -> Parts:
    """Of a FluxPipeline, whose patches are the channels of its input."""
    file = folder / "transformer" / "config.json"
    network, params = flux.read(find_tensors(file.parent), file, read_json(file), dtype)
    return Parts(file, _apply(network), params, _codec(folder, dtype), PATCH, side=128)


KINDS = {
    "DiTPipeline": of_dit,
    "SiTPipeline": of_sit,
    "StableDiffusionPipeline": of_stable_diffusion,
    "StableDiffusionXLPipeline": of_stable_diffusion_xl,
    "StableDiffusion3Pipeline": of_stable_diffusion_3,
    "FluxPipeline": of_flux,
}
"""By the class in the index."""


def _apply(network: linen.Module) -> Apply:
    return lambda params, x, t, y: network.apply({"params": params}, x, t, y)  # type: ignore[return-value]


def _codec(folder: Path, dtype: Dtype) -> FrozenText:
    codec = FrozenText(str(folder.absolute()), dtype)
    _ = codec.encoder  # a missing file shows now
    return codec


def space_of(folder: Path, file: Path, default: int | None) -> Latents:
    """The latents of the pipeline's autoencoder, scaled as published, of the size in the network's file.

    Raises:
        ValueError: a configuration has no scale, or no size.
    """
    autoencoder, side = autoencoders.load(folder), count(file, read_json(file), "sample_size", default)
    pixels = side * autoencoder.network.factor
    if pixels > limits.LARGEST_SIDE:
        raise ValueError(
            f"{file}: sample_size = {side}: images of more than {limits.LARGEST_SIDE} pixels a side"
        )
    return Latents.as_published((pixels, pixels, autoencoder.network.image_channels), autoencoder)


def names_of_tensors(folder: Path) -> tuple[NameOf, str]:
    """The published name for the path of a parameter, and the part of the pipeline that is the network."""
    found = kind(folder)
    if found in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        return stable_unet.name_of, "unet"
    if found in ("DiTPipeline", "SiTPipeline"):
        return dit.name_of(find_tensors(folder / "transformer")), "transformer"
    if found == "FluxPipeline":
        return flux.name_of, "transformer"
    depth = count(*_config(folder / "transformer"), "num_layers")
    return partial(sd3.name_of, last=f"transformer_blocks.{depth - 1}.attn."), "transformer"


def _config(folder: Path) -> tuple[Path, dict[str, Any]]:
    file = folder / "config.json"
    return file, read_json(file)


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
