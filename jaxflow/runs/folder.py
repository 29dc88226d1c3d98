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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import nn
from jaxflow.places import Place, bucket_errors, filesystem
from jaxflow.ranges import COUNT, quoted
from jaxflow.runs import autoencoders, exported, schema
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.configuration import Autoencoding, Experiment, FineTuning, differences
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.limits import blocks_of
from jaxflow.runs.run import Run
from jaxflow.spaces import Latents
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.files import atomic_write
from jaxflow.training.step import Params

AnyRun = Run | AutoencoderRun | FineTuningRun


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


def store(directory: Place, run: AnyRun) -> None:
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


def encoded(run: AnyRun) -> dict[str, Any]:
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
    experiment = dataclasses.replace(run.experiment, autoencoder=None, inflate=None, distill=None)
    fields = encoded(dataclasses.replace(run, experiment=experiment, data_dir=""))
    parts = {"model": params}
    if isinstance(run.space, Latents):
        parts["autoencoder"] = run.space.autoencoder.params
    exported.write(file, parts, fields | {"step": step})


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
        run = opened(place, classes)
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
    run = opened(directory, classes)
    if not isinstance(run, kind):
        raise ValueError(f"{directory} holds a run of another kind. Choose another --out")
    return run


def opened(directory: Place, classes: Iterable[type] = ()) -> AnyRun:
    """The run of a folder, of whichever kind.

    Raises:
        FileNotFoundError: there is none; or its autoencoder or text encoder does not exist.
        ValueError: its configuration cannot be read.
    """
    config = directory / "config.json"
    if not has_run(directory):
        raise FileNotFoundError(
            f"{directory} is not a run folder: it has no config.json; train one with --out"
        )
    try:
        fields = json.loads(config.read_text())
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
) -> AnyRun:
    _check_encoder(file, fields.get("codec"))
    kind: Any = AutoencoderRun if "image_shape" in fields else Run
    kind = FineTuningRun if is_of_fine_tuning(fields) else kind
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


def is_of_fine_tuning(fields: dict[str, Any]) -> bool:
    """Whether these fields of a config.json, possibly damaged, are those of a fine-tuning."""
    experiment = fields.get("experiment")
    return isinstance(experiment, dict) and "rank" in experiment


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


def newest_params(place: Place, run: AnyRun, like: Params | None = None) -> tuple[int, Params]:
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
