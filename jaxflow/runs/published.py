"""A pipeline of diffusers as a model like any other: every rule, solver and sweep works on it.

A folder inside a pipeline that is its network stands for the pipeline.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxflow.nn.attributes import Dtype
from jaxflow.pretrained import autoencoders, schedulers
from jaxflow.pretrained.adapter_files import NameOf
from jaxflow.pretrained.folders import INDEX, count, part, read_json
from jaxflow.ranges import quoted
from jaxflow.runs import limits
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.runs.model import Model
from jaxflow.runs.pipelines import ALONE, KINDS, Parts, description
from jaxflow.spaces import Autoencoder, Latents
from jaxflow.training.step import Params


def opened(
    folder: Path,
    dtype: Dtype = "float32",
    size: tuple[int, int] | None = None,
    autoencoder: Autoencoder | None = None,
) -> tuple[Model, Callable[[], Params]]:
    """The model of a pipeline with shapes as parameters, and the function that reads them onto one device.

    Args:
        folder: of the pipeline, or of its network.
        dtype: of network and text encoders, their parameters and computation; the autoencoder is float32.
        size: height and width of the images in pixels; by default those of the training.
        autoencoder: instead of the pipeline's; a network alone has none.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is another pipeline, or a file is damaged; the message names it; there is no
            autoencoder; or, when the parameters are read, the model cannot have this size.
    """
    folder = root(folder)
    made = KINDS[kind(folder)]
    if autoencoder is None:
        if not (folder / INDEX).is_file():
            raise ValueError(
                f"autoencoder is missing: {folder} has none, name the folder of the one it needs"
            )
        autoencoder = autoencoders.load(folder)
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

    model = Model(network, parts.params.shapes, path, prediction, parts.codec, space, shift=shift)
    if size is not None:
        model = model.with_size(*size)
        model = replace(model, shift=schedule(model.event_shape).shift)

    def read() -> Params:
        if isinstance(parts.codec, FrozenText):
            _ = parts.codec.encoder  # a missing file shows before the network is read
        if size is not None:
            model.resized(*size)
        return parts.params.read()

    return model, read


def root(folder: Path) -> Path:
    """The folder of the pipeline whose network this is, or else the folder itself.

    Raises:
        ValueError: it is in a pipeline that is none of `KINDS`.
    """
    above = folder.absolute().parent
    if (folder / INDEX).is_file() or not (above / INDEX).is_file():
        return folder
    return above if KINDS[kind(above)].part == folder.absolute().name else folder


def is_published(folder: Path) -> bool:
    """Whether a folder is a pipeline or one of its models: it says so, or is an autoencoder and does not."""
    if (folder / INDEX).is_file():
        return True
    try:
        said = description(folder)
        return "_class_name" in said or (not said and autoencoders.is_autoencoder(folder))
    except (OSError, ValueError):
        return False  # no weights, or damaged, which is said when it is read as a run


def kind(folder: Path) -> str:
    """The class of a pipeline, also of that of a network that lies alone.

    Raises:
        ValueError: it is none of `KINDS`, or the model cannot be used without its pipeline.
    """
    found = str(description(folder).get("_class_name"))
    if (folder / INDEX).is_file():
        if found not in KINDS:
            raise ValueError(f"{folder} is a pipeline {quoted(found)}: must be one of {', '.join(KINDS)}")
        return found
    if found in ALONE:
        return ALONE[found]
    if autoencoders.is_autoencoder(folder):
        raise ValueError(
            f"{folder} is an autoencoder: read it with load_autoencoder, or name it as that of a network"
        )
    raise ValueError(
        f"{folder} is one model of a pipeline, _class_name = {quoted(found)}: name the folder with {INDEX};"
        f" only {', '.join(ALONE)} can be used alone"
    )


def space_of(autoencoder: Autoencoder, parts: Parts) -> Latents:
    """The latents of the autoencoder, scaled as published, of the size in the network's file.

    Raises:
        ValueError: a configuration has no scale, or no size; or the network has other latents.
    """
    if autoencoder.network.latent_channels != parts.channels:
        raise ValueError(
            f"autoencoder: its latents have {autoencoder.network.latent_channels} channels, those of the"
            f" network in {parts.file.parent} {parts.channels}"
        )
    side = count(parts.file, read_json(parts.file), "sample_size", parts.side)
    pixels, most = side * autoencoder.network.factor, limits.LARGEST_SIDE
    if pixels > most:
        raise ValueError(f"{parts.file}: sample_size = {side}: images of more than {most} pixels a side")
    return Latents.as_published((pixels, pixels, autoencoder.network.image_channels), autoencoder)


def names_of_tensors(folder: Path) -> tuple[NameOf, str]:
    """The published name for the path of a parameter, and the part of the pipeline that is the network."""
    folder = root(folder)
    made = KINDS[kind(folder)]
    return made.name_of(part(folder, made.part)), made.part
