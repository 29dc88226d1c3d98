"""The model of a place: of a run, an exported file, a fine-tuning, or a pipeline of diffusers."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxflow import places, ranges
from jaxflow.adapters import Adapter, merge
from jaxflow.data.walk import is_run
from jaxflow.nn.attributes import Dtype
from jaxflow.places import Place, bucket_errors
from jaxflow.pretrained import adapter_files
from jaxflow.pretrained import autoencoders as world
from jaxflow.runs import folder, published
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.model import Model
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
    autoencoder: str | os.PathLike | None = None,
) -> Model:
    """The model of a run folder, of an exported file, or of a published pipeline, on one device.

    Args:
        place: the run folder or the file, either of which may be in a bucket, gs://bucket/run; or a folder of
            diffusers, see `runs.published`.
        classes: networks, encoders and paths that are not jaxflow's own, as a tuple; no others are built.
        dtype: of a published network, float32 or bfloat16, which needs half the memory; a run has its own.
        size: height and width of the images in pixels; by default those of the training.
        adapters: files of low-rank adapters of a published network, and the scale of each.
        autoencoder: folder or run of that of a published network that lies alone; or one to use instead of
            the pipeline's.

    Raises:
        FileNotFoundError: it does not exist, is not a run, or has no checkpoint yet.
        ValueError: it is damaged, or needs an unknown class, which the message names; an option is given that
            a run does not have; the model cannot have this size; or as `places.place`.
    """
    place, classes = places.place(place, "place"), (classes,) if isinstance(classes, type) else tuple(classes)
    options: dict[str, Any] = {"dtype": dtype, "size": size, "adapters": adapters, "autoencoder": autoencoder}
    return opened(place, classes, **options)[1]()


def opened(
    place: Place,
    classes: tuple[type, ...] = (),
    *,
    dtype: Dtype | None = None,
    size: tuple[int, int] | None = None,
    adapters: Mapping[str, float] = MappingProxyType({}),
    autoencoder: str | os.PathLike | None = None,
) -> tuple[Model, Callable[[], Model]]:
    """The model of a place with shapes as parameters, and the function that reads it; arguments as of `load`.

    Of a published model only the autoencoder is read yet, and no text encoder.
    """
    if is_published(place):
        other = None if autoencoder is None else load_autoencoder(autoencoder, classes)
        model, params = published.opened(Path(place), dtype or "float32", size, other)
        found = adapters_of(place, model.params, adapters) if adapters else []
        return model, lambda: model.at(merge(params(), found))
    if adapters:
        raise ValueError(f"adapters: {place} is a run; adapters in files are those of published models")
    options: dict[str, Any] = {"dtype": dtype, "autoencoder": autoencoder}
    if is_fine_tuning(place):
        tuning, base = open_fine_tuning(place, classes, size=size, **options)

        def tuned() -> Model:
            step, params = folder.newest_params(place, tuning)
            return replace(tuning, base=base()).tuned(params, step)

        return tuning.model, tuned
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} = {value}: {place} is a run, which has its own")
    run = folder.open_run(place, classes)
    model = run.model(run.shapes)
    model = model if size is None else model.resized(*size)

    def read() -> Model:
        step, params = folder.newest_params(place, run)
        return replace(model, params=params, step=step)

    return model, read


def is_published(place: Place) -> bool:
    """Whether the folder is a pipeline of diffusers, or one model of its kind."""
    return isinstance(place, Path) and published.is_published(place)


def adapters_of(place: Place, params: Params, adapters: Mapping[str, float]) -> list[tuple[Adapter, float]]:
    """Low-rank adapters of a published network, from their files, with the scale of each.

    Args:
        place: of the network.
        params: of the network, or their shapes.
        adapters: files and scales.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: it is of another network, or a scale is not finite.
    """
    name_of, part = published.names_of_tensors(Path(place))
    found = []
    for file, scale in adapters.items():
        ranges.finite(scale=scale)
        path = Path(places.place(file, "adapter"))
        found.append((adapter_files.read(path, params, name_of, part), scale))
    return found


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


def open_fine_tuning(
    place: Place, classes: tuple[type, ...] = (), **options: Any
) -> tuple[FineTuningRun, Callable[[], Model]]:
    """The run of a fine-tuning, with the model from which it starts as of `opened`; options as of `load`.

    Raises:
        FileNotFoundError: the model is no longer there.
        ValueError: the configuration cannot be read, or it is that of another run.
    """
    run = folder.opened(place, classes)
    if not isinstance(run, FineTuningRun):
        raise ValueError(f"{place} is no fine-tuning")
    base, read = opened(places.place(run.experiment.model, "model"), classes, **options)
    return replace(run, base=base), read


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
    if isinstance(place, Path) and is_published(place):
        place = published.root(place)
        return place.with_name(f"{place.name}-results")
    return place.with_name(f"{place.stem}-results") if place.is_file() else place
