"""The model of a place: of a run, an exported file, a fine-tuning, or a pipeline of diffusers."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxflow import places, ranges
from jaxflow.adapters import merge
from jaxflow.data.walk import is_run
from jaxflow.nn.attributes import Dtype
from jaxflow.places import Place, bucket_errors
from jaxflow.pretrained import adapter_files
from jaxflow.pretrained import autoencoders as world
from jaxflow.runs import folder, published
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.model import Model
from jaxflow.runs.pipelines import INDEX
from jaxflow.spaces import Autoencoder, Latents
from jaxflow.training.files import atomic_write
from jaxflow.training.step import Params


def load(
    place: str | os.PathLike,
    classes: Iterable[type] = (),
    *,
    dtype: Dtype | None = None,
    size: tuple[int, int] | None = None,
    adapters: Mapping[str, float] = MappingProxyType({}),
) -> Model:
    """The model of a run folder, of an exported file, or of a published pipeline, on one device.

    Args:
        place: the run folder or the file, either of which may be in a bucket, gs://bucket/run; or a folder of
            diffusers, see `runs.published`.
        classes: networks, encoders and paths that are not jaxflow's own, as a tuple; no others are built.
        dtype: of a published network, float32 or bfloat16, which needs half the memory; a run has its own.
        size: height and width of the images in pixels; by default those of the training.
        adapters: files of low-rank adapters of a published network, and the scale of each.

    Raises:
        FileNotFoundError: it does not exist, is not a run, or has no checkpoint yet.
        ValueError: it is damaged, or needs an unknown class, which the message names; a dtype is given for
            a run; the model cannot have this size; or as `places.place`.
    """
    place, classes = places.place(place, "place"), (classes,) if isinstance(classes, type) else tuple(classes)
    if is_published(place):
        model = published.load(Path(place), "float32" if dtype is None else dtype, size)
        return adapted(place, model, adapters)
    tuned = is_fine_tuning(place)
    if dtype is not None and not tuned:
        raise ValueError(
            f"dtype = {dtype}: {place} is a run, which has its own: set network.dtype in training"
        )
    if adapters:
        raise ValueError(f"adapters: {place} is a run; adapters in files are those of published models")
    if tuned:
        fine_tuning = open_fine_tuning(place, classes, dtype=dtype, size=size)
        step, params = folder.newest_params(place, fine_tuning)
        return fine_tuning.tuned(params, step)
    run = folder.open_run(place, classes)
    step, params = folder.newest_params(place, run)
    model = run.model(params, step)
    return model if size is None else model.resized(*size)


def is_published(place: Place) -> bool:
    """Whether the folder is a pipeline of diffusers."""
    return isinstance(place, Path) and (place / INDEX).is_file()


def adapted(place: Place, model: Model, adapters: Mapping[str, float]) -> Model:
    """A published model with low-rank adapters: their files, and the scale of each.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: it is of another network, or a scale is not finite.
    """
    if not adapters:
        return model
    name_of, part = published.names_of_tensors(Path(place))
    found = []
    for file, scale in adapters.items():
        ranges.finite(scale=scale)
        path = Path(places.place(file, "adapter"))
        found.append((adapter_files.read(path, model.params, name_of, part), scale))
    return model.at(merge(model.params, found))


def is_fine_tuning(place: Place) -> bool:
    """Whether the folder is the run of a fine-tuning."""
    with bucket_errors(place):
        if place.is_file() or not folder.has_run(place):
            return False
        text = (place / "config.json").read_text(errors="replace")
    try:
        return folder.is_of_fine_tuning(json.loads(text))
    except (AttributeError, TypeError, ValueError, RecursionError):
        return False  # damaged, which is said when it is read


def open_fine_tuning(place: Place, classes: Iterable[type] = (), **options: Any) -> FineTuningRun:
    """The run of a fine-tuning, with the model from which it starts; options as of `load`.

    Raises:
        FileNotFoundError: the model is no longer there.
        ValueError: the configuration cannot be read, or it is that of another run.
    """
    run = folder.opened(place, classes)
    if not isinstance(run, FineTuningRun):
        raise ValueError(f"{place} is no fine-tuning")
    return dataclasses.replace(run, base=load(run.experiment.model, classes, **options))


def load_autoencoder(where: str | os.PathLike, classes: Iterable[type] = ()) -> Autoencoder:
    """The autoencoder of a folder: of published weights, of its own training, or of a run in its latents.

    Args:
        where: a folder with the weights of a TAESD, or a run folder.
        classes: networks that are not jaxflow's own.

    Raises:
        FileNotFoundError: it does not exist, has no weights, or is a run in pixels.
        ValueError: the weights are damaged, or those of something else; the message names the file.
    """
    directory = places.place(where, "place")
    with bucket_errors(directory):
        of_run = is_run(directory)
    if not of_run:  # published folders have a config.json too
        return world.load(directory)
    run = folder.opened(directory, tuple(classes))
    if isinstance(run, FineTuningRun):
        return load_autoencoder(run.experiment.model, classes)
    if isinstance(run, AutoencoderRun):
        return run.autoencoder(folder.newest_params(directory, run)[1])
    if not isinstance(run.space, Latents):
        raise FileNotFoundError(f"{directory} has no autoencoder: it is a run in pixels")
    return run.space.autoencoder


def export_adapter(file: Place, run: FineTuningRun, params: Params, step: int) -> None:
    """Write the adapter of a fine-tuning of a published model.

    Raises:
        ValueError: the whole network was trained, or the model is not a published one.
        OSError: the file cannot be written.
    """
    base = places.place(run.experiment.model, "model")
    if run.experiment.rank is None or not is_published(base):
        raise ValueError("only the adapter of a published model can be exported; sample from the run folder")
    name_of, part = published.names_of_tensors(Path(base))
    with atomic_write(file) as stream:
        stream.write(adapter_files.encoded(params, name_of, part))


def results(place: Place) -> Place:
    """Where results go: the run folder, or NAME-results next to a file NAME.safetensors or a pipeline."""
    beside = place.is_file() or is_published(place)
    return place.with_name(f"{place.stem if place.is_file() else place.name}-results") if beside else place
