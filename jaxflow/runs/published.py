"""A pipeline of diffusers as a model like any other: every rule, solver and sweep works on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxflow.nn.attributes import Dtype
from jaxflow.pretrained import autoencoders, schedulers
from jaxflow.pretrained.adapter_files import NameOf
from jaxflow.pretrained.folders import count, read_json
from jaxflow.ranges import quoted
from jaxflow.runs import limits
from jaxflow.runs.model import Model
from jaxflow.runs.pipelines import INDEX, KINDS, Parts
from jaxflow.spaces import Autoencoder, Latents
from jaxflow.training.step import Params


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
    made, autoencoder = KINDS[kind(folder)], autoencoders.load(folder)
    parts = made.read(folder, dtype, autoencoder.network.factor)
    space = space_of(autoencoder, parts)

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


def space_of(autoencoder: Autoencoder, parts: Parts) -> Latents:
    """The latents of the pipeline's autoencoder, scaled as published, of the size in the network's file.

    Raises:
        ValueError: a configuration has no scale, or no size.
    """
    side = count(parts.file, read_json(parts.file), "sample_size", parts.side)
    pixels, most = side * autoencoder.network.factor, limits.LARGEST_SIDE
    if pixels > most:
        raise ValueError(f"{parts.file}: sample_size = {side}: images of more than {most} pixels a side")
    return Latents.as_published((pixels, pixels, autoencoder.network.image_channels), autoencoder)


def names_of_tensors(folder: Path) -> tuple[NameOf, str]:
    """The published name for the path of a parameter, and the part of the pipeline that is the network."""
    made = KINDS[kind(folder)]
    return made.name_of(folder / made.part), made.part
