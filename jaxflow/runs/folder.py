"""A run folder: what was trained, on what, and what came of it.

config.json     the experiment, the space of its flow, what is said of the images, the data folder
data.png        pictures of a folder as they were read
metrics.jsonl   a line every few steps
tensorboard/    the same and the pictures, for TensorBoard
profile/        of `train --profile`
checkpoints/    the training state, by step; checkpoints.written, where there has been one
lock            held by the training while it goes on
samples/        pages drawn while it trained; grids and arrays of `sample`
evaluation.*    table and curves of `evaluate`
*.safetensors   of `export`: the configuration and the moving average, which alone are a run to sample from
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow.runs import exported, schema
from jaxflow.runs.configuration import Experiment, differences
from jaxflow.runs.model import Model
from jaxflow.runs.run import Run
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.files import whole
from jaxflow.training.step import Params


def load(place: str | Path, classes: Iterable[type] = ()) -> Model:
    """The model of a run folder, or of an exported file, on one device.

    Args:
        place: the run folder, or the file.
        classes: a tuple of networks, encoders and paths that are not jaxflow's own; no others are built.

    Raises:
        FileNotFoundError: it is not there, or no run, or has no checkpoint yet.
        ValueError: it is damaged, or needs a class that is not known; the message says which.
    """
    place, classes = Path(place), (classes,) if isinstance(classes, type) else tuple(classes)
    run = open_run(place, classes)
    step, params = newest_params(place, run)
    return run.model(params, step)


def make(directory: Path) -> None:
    """Make a folder for what a script writes, if it is not there.

    Raises:
        OSError: it cannot be made; the message says why.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"out = {directory}: the folder cannot be made, {error.strerror}: choose another --out"
        ) from error


def store(directory: Path, run: Run) -> None:
    """Write the configuration, after a check that what is in the folder is of the same experiment.

    Raises:
        ValueError: the folder holds another experiment, and the message lists what differs; or this one
            could not be read again.
        OSError: the folder cannot be written.
    """
    config = directory / "config.json"
    if config.exists():
        before = open_run(directory, schema.classes_in(run.experiment))
        changed = differences(before.experiment, run.experiment)
        if not before.fits(run):
            changed.append("the data's classes, words or image size changed")
        if changed:
            raise ValueError(
                f"{directory} holds another experiment: {'; '.join(changed)}. Choose another --out"
            )
    fields = encoded(run)
    write_json(config, fields | {"sha256": _hash(fields)})


def encoded(run: Run) -> dict[str, Any]:
    """The fields of a run as JSON holds them.

    Raises:
        ValueError: its network, or its path, could not be read again.
    """
    fields = schema.encode(run, schema.classes_in(run))
    return {name: value for name, value in fields.items() if name != "class"}


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON for people and programs."""
    with whole(file) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def export(file: Path, run: Run, params: Params, step: int) -> None:
    """Write what sampling needs of a run as one file, which `open_run` and `newest_params` take as a run.

    Raises:
        OSError: the file cannot be written.
    """
    # data_dir is a path of this machine: it would give away names and mean nothing elsewhere.
    exported.write(file, params, encoded(dataclasses.replace(run, data_dir="")) | {"step": step})


def open_run(place: Path, classes: Iterable[type] = ()) -> Run:
    """Read a run folder, or the file of one; arguments as of `load`.

    Raises:
        FileNotFoundError: it is not there, or no run; or the text encoder is not there that a file names.
        ValueError: its configuration cannot be read.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"{place} does not exist: the folder of a run is needed, or a file of experiments.export"
        )
    if not place.is_file():
        return _open_folder(place, classes)
    params, config = exported.read(place)
    if not isinstance(config, dict):
        raise ValueError(f"{place} is damaged: its configuration is {type(config).__name__}")
    fields = {name: value for name, value in config.items() if name != "step"}
    return _decoded(place, fields, classes, tensors=len(jax.tree.leaves(params)))


def _open_folder(directory: Path, classes: Iterable[type]) -> Run:
    config = directory / "config.json"
    if not config.exists():
        raise FileNotFoundError(
            f"{directory} is not a run folder: it has no config.json; train one with --out"
        )
    try:
        fields = json.loads(config.read_text())
        if fields.pop("sha256") != _hash(fields):
            raise ValueError("it is not as it was written")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{config} is damaged, or of another version of jaxflow: {error!r}") from None
    return _decoded(config, fields, classes)


def _decoded(file: Path, fields: dict[str, Any], classes: Iterable[type], tensors: int | None = None) -> Run:
    _check_encoder(file, fields.get("codec"))
    try:
        run = schema.decode(fields | {"class": "Run"}, Run, (*classes, Experiment))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read, or is of another version of jaxflow: {error}") from None
    blocks = 0 if tensors is None else _blocks(run.experiment.network)
    if tensors is not None and blocks > tensors:  # before it is built, which takes a while for each
        raise ValueError(f"{file} is of another network: of {blocks} blocks, and there are {tensors} tensors")
    try:
        run.shapes()
    except Exception as error:  # whatever a network says of attributes that do not fit each other
        raise ValueError(f"{file}: its network cannot be built: {error}") from None
    return run


def _check_encoder(file: Path, codec: Any) -> None:
    """A frozen text encoder, by its folder, is not part of a run."""
    folder = codec.get("folder") if isinstance(codec, dict) else None
    if isinstance(folder, str) and not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{file} needs the frozen text encoder {folder}, which does not exist: put it there, a run has"
            " the model alone"
        )


def _blocks(network: Any) -> int:
    """Blocks of a network of ours that are built one by one, each of them with parameters of its own."""
    if type(network) not in schema.CLASSES:
        return 0
    encoder = getattr(network, "encode", None)
    looped = getattr(network, "scan", False)
    counts = (1 if looped else getattr(network, name, 1) for name in ("depth", "blocks", "layers"))
    return math.prod(counts) * max(1, len(getattr(network, "channels", ()))) + _blocks(encoder)


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def newest_params(place: Path, run: Run, like: Params | None = None) -> tuple[int, Params]:
    """Step and moving average of the parameters: of a file, or at the newest whole checkpoint of a folder.

    Args:
        place: the run folder, or the file.
        run: as opened from there.
        like: the shapes, each with its sharding; on one device if left out.

    Raises:
        FileNotFoundError: there is no checkpoint yet.
        ValueError: none is whole, or it is of another network.
    """
    like = run.shapes() if like is None else like
    if place.is_file():
        params, config = exported.read(place)
        exported.check(place, params, like)
        if type(config.get("step")) is not int or config["step"] < 0:
            raise ValueError(f"{place} is damaged: its step is {config.get('step')!r}")
        return config["step"], jax.tree.map(_lay, params, like)
    with Checkpoints(place / "checkpoints") as checkpoints:
        return checkpoints.restore_ema(like)


def _lay(leaf: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    if like.sharding is None:
        return jnp.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, like.sharding, lambda index: leaf[index])


def results(place: Path) -> Path:
    """Where results go: the run folder, or beside a file NAME.safetensors NAME-results."""
    return place.with_name(f"{place.stem}-results") if place.is_file() else place
