"""A run folder: what was trained, on what, and the results.

config.json     the experiment, the space of its flow, the labels or captions, the data folder
autoencoder.*   in whose latents the flow runs, if it does
data.png        a sample of the images that were read from a folder
metrics.jsonl   a line every few steps
tensorboard/    the same and the preview images, for TensorBoard
profile/        of `train --profile`
checkpoints/    the training state by step; checkpoints.written once there has been one
lock            held by the training while it runs; lock.holder names the process
samples/        previews of the training; grids and arrays of `sample`
evaluation.*    table and curves of `evaluate`
*.safetensors   of `export`: the configuration and the moving average, enough to sample from

It may be in a bucket, gs://bucket/folder (`places`).
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import nn, places, ranges
from jaxflow.adapters import merge
from jaxflow.data.walk import is_run
from jaxflow.nn.attributes import Dtype
from jaxflow.places import Place, bucket_errors, filesystem
from jaxflow.pretrained import adapter_files
from jaxflow.pretrained import autoencoders as world
from jaxflow.ranges import COUNT, quoted
from jaxflow.runs import autoencoders, exported, published, schema
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.configuration import Autoencoding, Experiment, FineTuning, differences
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.limits import blocks_of
from jaxflow.runs.model import Model
from jaxflow.runs.pipelines import INDEX
from jaxflow.runs.run import Run
from jaxflow.spaces import Autoencoder, Latents
from jaxflow.training.checkpoint import Checkpoints
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
        step, params = newest_params(place, fine_tuning)
        return fine_tuning.tuned(params, step)
    run = open_run(place, classes)
    step, params = newest_params(place, run)
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
        if place.is_file() or not has_run(place):
            return False
        text = (place / "config.json").read_text(errors="replace")
    try:
        return "rank" in json.loads(text).get("experiment", {})
    except (AttributeError, TypeError, ValueError, RecursionError):
        return False  # damaged, which is said when it is read


def open_fine_tuning(place: Place, classes: Iterable[type] = (), **options: Any) -> FineTuningRun:
    """The run of a fine-tuning, with the model from which it starts; options as of `load`.

    Raises:
        FileNotFoundError: the model is no longer there.
        ValueError: the configuration cannot be read, or it is that of another run.
    """
    run = _opened(place, classes)
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
    run = _opened(directory, tuple(classes))
    if isinstance(run, FineTuningRun):
        return load_autoencoder(run.experiment.model, classes)
    if isinstance(run, AutoencoderRun):
        return run.autoencoder(newest_params(directory, run)[1])
    if not isinstance(run.space, Latents):
        raise FileNotFoundError(f"{directory} has no autoencoder: it is a run in pixels")
    return run.space.autoencoder


def make(directory: Place) -> None:
    """Create a folder for a script's output, if it does not exist.

    Raises:
        OSError: it cannot be made, or the bucket cannot be reached; the message says why.
    """
    try:
        if isinstance(directory, Path):
            directory.mkdir(parents=True, exist_ok=True)
        else:
            _check_bucket(directory)
    except OSError as error:
        raise OSError(
            f"out = {directory}: the folder cannot be made, {error.strerror or error}: choose another --out"
        ) from error
    if isinstance(directory, Path) and not os.access(directory, os.W_OK):
        raise OSError(f"out = {directory}: the folder is read-only: choose another --out")


def _check_bucket(directory: Place) -> None:
    """Folders in a bucket need not be created, but the bucket must exist and be writable."""
    probe = f"{directory}/.probe"
    with bucket_errors(directory):
        filesystem().pipe_file(probe, b"")
        filesystem().rm_file(probe)


def has_run(directory: Place) -> bool:
    """Whether a run was begun in the folder.

    Raises:
        OSError: the folder, or the bucket, cannot be read.
    """
    with bucket_errors(directory):
        return (directory / "config.json").exists()


def store(directory: Place, run: Run | AutoencoderRun | FineTuningRun) -> None:
    """Write the configuration, unless the folder holds another experiment.

    Raises:
        ValueError: it does, and the message lists the differences; or this one could not be read again.
        OSError: the folder cannot be written.
    """
    config = directory / "config.json"
    if has_run(directory):
        before = open_before(directory, type(run), tuple(schema.classes_in(run.experiment)))
        changed = differences(before.experiment, run.experiment)
        if not before.fits(run):
            changed.append("the data's classes, words or image size changed")
        if changed:
            raise ValueError(
                f"{directory} holds another experiment: {'; '.join(changed)}. Choose another --out"
            )
    elif isinstance(run, Run) and isinstance(run.space, Latents):
        autoencoders.store(directory, run.space.autoencoder)
    fields = encoded(run)
    write_json(config, fields | {"sha256": _hash(fields)})


def encoded(run: Run | AutoencoderRun | FineTuningRun) -> dict[str, Any]:
    """The fields of a run as JSON.

    Raises:
        ValueError: its network or path could not be read again.
    """
    fields = schema.encode(run, schema.classes_in(run))
    return {name: value for name, value in fields.items() if name != "class"}


def write_json(file: Place, content: dict[str, Any]) -> None:
    """Write a JSON file that is easy to read."""
    with atomic_write(file) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def export(file: Place, run: Run, params: Params, step: int) -> None:
    """Write what sampling needs as one file, which `open_run` and `newest_params` accept as a run.

    Raises:
        OSError: the file cannot be written.
    """
    # Paths of this machine would disclose names and mean nothing elsewhere.
    experiment = dataclasses.replace(run.experiment, autoencoder=None)
    fields = encoded(dataclasses.replace(run, experiment=experiment, data_dir=""))
    parts = {"model": params}
    if isinstance(run.space, Latents):
        parts["autoencoder"] = run.space.autoencoder.params
    exported.write(file, parts, fields | {"step": step})


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


def open_run(place: Place, classes: Iterable[type] = ()) -> Run:
    """Read a run folder or an exported file; arguments as of `load`.

    Raises:
        FileNotFoundError: it does not exist or is not a run; or its text encoder does not exist.
        ValueError: its configuration cannot be read.
    """
    with bucket_errors(place):
        exists, is_file = place.exists(), place.is_file()
    if not exists:
        raise FileNotFoundError(
            f"{place} does not exist: expected a run folder, or a file of experiments.export"
        )
    if not is_file:
        run = _opened(place, classes)
        if isinstance(run, AutoencoderRun):
            raise ValueError(
                f"{place} is the run of an autoencoder: train a flow in its latents, --autoencoder {place}"
            )
        if isinstance(run, FineTuningRun):
            raise ValueError(f"{place} is a fine-tuning: it can be sampled, and exported as an adapter")
        return run
    params, config = exported.read(place)
    if not isinstance(config, dict):
        raise ValueError(f"{place} is damaged: its configuration is {type(config).__name__}")
    fields = {name: value for name, value in config.items() if name != "step"}
    found = _decoded(place, fields, classes, tensors=len(jax.tree.leaves(params)))
    if not isinstance(found, Run):
        raise ValueError(f"{place} cannot be read: it is not the model of a flow")
    return _with_autoencoder(found, place, _part(params, "autoencoder"))


def open_before(directory: Place, kind: type, classes: Iterable[type] = ()) -> Any:
    """The run of a folder in which one of this kind is to be resumed; None if there is none.

    Raises:
        ValueError: it cannot be read, or is of another kind.
    """
    if not has_run(directory):
        return None
    run = _opened(directory, classes)
    if not isinstance(run, kind):
        raise ValueError(f"{directory} holds a run of another kind. Choose another --out")
    return run


def _opened(directory: Place, classes: Iterable[type]) -> Run | AutoencoderRun | FineTuningRun:
    config = directory / "config.json"
    if not has_run(directory):
        raise FileNotFoundError(
            f"{directory} is not a run folder: it has no config.json; train one with --out"
        )
    try:
        fields = json.loads(config.read_text())
        if "_class_name" in fields:
            raise ValueError(f"it is one model of a pipeline: name the folder with {INDEX}")
        if fields.pop("sha256") != _hash(fields):
            raise ValueError("its SHA-256 is not that of its content")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{config} is damaged, or written by another version of jaxflow: {error!r}"
        ) from None
    run = _decoded(config, fields, classes)
    if not isinstance(run, Run) or not isinstance(run.space, Latents):
        return run
    file = directory / autoencoders.FILE
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: copy it there, the run needs it")
    return _with_autoencoder(run, file, exported.read(file)[0])


def _part(parts: Params, name: str) -> Params:
    """The parameters of a network in an exported file; none if it has no such network."""
    found = parts.get(name)
    return found if isinstance(found, dict) else {}


def _with_autoencoder(run: Run, file: Place, params: Params) -> Run:
    """The run with the weights of its autoencoder, if it has one."""
    if not isinstance(run.space, Latents):
        return run
    return dataclasses.replace(run, space=autoencoders.with_params(run.space, file, params))


def _decoded(
    file: Place, fields: dict[str, Any], classes: Iterable[type], tensors: int | None = None
) -> Run | AutoencoderRun | FineTuningRun:
    _check_encoder(file, fields.get("codec"))
    kind: Any = AutoencoderRun if "image_shape" in fields else Run
    if isinstance(fields.get("experiment"), dict) and "rank" in fields["experiment"]:
        kind = FineTuningRun
    try:
        allowed = (*classes, Experiment, Autoencoding, FineTuning)
        run = schema.decode(fields | {"class": kind.__name__}, kind, allowed)
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be read, or was written by another version of jaxflow: {error}"
        ) from None
    if isinstance(run, FineTuningRun):
        return run
    encoder = getattr(run.experiment.network, "encode", None)
    names = getattr(getattr(run, "codec", None), "names", ())
    if isinstance(encoder, nn.ClassTable) and encoder.classes < len(names):  # null would be beyond its rows
        raise ValueError(f"{file}: {len(names)} classes, but a network of {encoder.classes}")
    blocks = 0 if tensors is None else blocks_of(run.experiment.network)
    if tensors is not None and blocks > tensors:  # before building them, which is slow
        raise ValueError(f"{file} is of another network, with {blocks} blocks: it has {tensors} tensors")
    try:
        _ = run.shapes
    except Exception as error:  # networks may raise anything about inconsistent attributes
        raise ValueError(f"{file}: its network cannot be built: {error}") from None
    return run


def _check_encoder(file: Place, codec: Any) -> None:
    """Raise if the folder of a frozen text encoder, which is not part of a run, is missing."""
    folder = codec.get("folder") if isinstance(codec, dict) else None
    if isinstance(folder, str) and len(folder) <= schema.LONGEST and not os.path.isdir(folder):
        raise FileNotFoundError(
            f"{file} needs the frozen text encoder {folder}, which does not exist: copy it there, a run does"
            " not include it"
        )


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def newest_params(
    place: Place, run: Run | AutoencoderRun | FineTuningRun, like: Params | None = None
) -> tuple[int, Params]:
    """Step and moving average of the parameters: of a file, or of a folder's newest intact checkpoint.

    Args:
        place: the run folder, or the file.
        run: as opened from there.
        like: the shapes with their shardings; if None, one device holds all.

    Raises:
        FileNotFoundError: there is no checkpoint yet.
        ValueError: none is intact, or it is of another network.
    """
    like = run.shapes if like is None else like
    if place.is_file():
        parts, config = exported.read(place)
        params = _part(parts, "model")
        exported.check(place, params, like)
        if type(config.get("step")) is not int or not 0 <= config["step"] <= COUNT:
            raise ValueError(f"{place} is damaged: its step is {quoted(config.get('step'))}")
        return config["step"], jax.tree.map(_placed, params, like)
    with Checkpoints(place / "checkpoints") as checkpoints:
        return checkpoints.restore_ema(like)


def _placed(leaf: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    if like.sharding is None:
        return jnp.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, like.sharding, lambda index: leaf[index])


def results(place: Place) -> Place:
    """Where results go: the run folder, or NAME-results next to a file NAME.safetensors or a pipeline."""
    beside = place.is_file() or is_published(place)
    return place.with_name(f"{place.stem if place.is_file() else place.name}-results") if beside else place
