"""A run folder: what was trained, on what, and what came of it.

config.json     the experiment, the shape of the images, what is said of them, the data folder
data.png        pictures of a folder as they were read
metrics.jsonl   a line every few steps
checkpoints/    the training state, by step
lock            held by the training while it goes on
samples/        grids and arrays of `sample`
evaluation.*    table and curves of `evaluate`
*.safetensors   of `export`: the configuration and the moving average, which alone are a run to sample from
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cache
from experiments.experiment import Experiment, decode, differences, encode
from experiments.frozen_text import FrozenText, with_embeddings
from jaxflow import fields
from jaxflow.data.conditions import Classes, Condition
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import data_directory, open_dataset
from jaxflow.training import weights
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.files import whole
from jaxflow.training.step import Params
from jaxflow.typing import GuidedField


@dataclass(frozen=True)
class Run:
    """What sampling and evaluation need to know of a training run."""

    experiment: Experiment
    data_dir: str
    """Empty in a run that was opened from a file."""
    image_shape: tuple[int, int, int]
    condition: Condition
    """What is said of the images: classes or captions."""

    @property
    def null(self) -> Any:
        """The condition that says nothing, for one example."""
        return self.condition.null

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes.

        Raises:
            ValueError: the run is of captions.
        """
        if not isinstance(self.condition, Classes):
            raise ValueError(
                f"the run is of {self.experiment.dataset}, whose images have captions, not classes"
            )
        return self.condition.names

    def initial_params(self, key: jax.Array) -> Params:
        """Parameters of the network before training."""
        x, t = jnp.zeros((1, *self.image_shape)), jnp.zeros(1)
        y = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self.null)
        return self.experiment.network.init(key, x, t, y)["params"]

    def shapes(self) -> Params:
        """The parameters as shapes; nothing is computed."""
        return jax.eval_shape(lambda: self.initial_params(jax.random.key(0)))

    def field(self, params: Params) -> GuidedField:
        """The velocity field of the network with these parameters."""
        experiment = self.experiment
        return fields.from_network(
            experiment.network, params, experiment.path, prediction=experiment.prediction
        )

    def open_split(self, split: str, data_dir: str | None = None) -> Dataset:
        """A split of the run's data set.

        Raises:
            ValueError: the data are not those of the training: other classes, words or sizes.
        """
        data_dir = data_dir or self.data_dir or None
        dataset = open_data(self.experiment, split, data_dir)
        if not self.fits(dataset.condition, dataset.image_shape):
            raise ValueError(
                f"data_dir = {data_directory(data_dir)}: its {self.experiment.dataset} has other classes,"
                " words or image sizes than the run was trained on"
            )
        return dataset

    def fits(self, condition: Condition, image_shape: tuple[int, int, int]) -> bool:
        """Are images of this shape and what is said of them like those of the run?"""
        return (self.condition, self.image_shape) == (condition, image_shape)


def open_data(experiment: Experiment, split: str, data_dir: str | None) -> Dataset:
    """A split of an experiment's data set, its captions as embeddings where it has a frozen text encoder."""
    dataset = open_dataset(experiment.dataset, split, data_dir, image_size=experiment.image_size)
    if experiment.text_encoder is None:
        return dataset
    return with_embeddings(dataset, FrozenText(experiment.text_encoder), cache.directory() / "captions")


def new_run(experiment: Experiment, dataset: Dataset, data_dir: str | None) -> Run:
    """The run of an experiment on a data set.

    Raises:
        ValueError: the network does not fit the images.
    """
    run = Run(experiment, str(data_directory(data_dir).absolute()), dataset.image_shape, dataset.condition)
    run.shapes()
    return run


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
        ValueError: the folder holds another experiment; the message lists what differs.
        OSError: the folder cannot be written.
    """
    config = directory / "config.json"
    if config.exists():
        before = open_run(directory)
        changed = differences(before.experiment, run.experiment)
        if not before.fits(run.condition, run.image_shape):
            changed.append("the data's classes, words or image size changed")
        if changed:
            raise ValueError(
                f"{directory} holds another experiment: {'; '.join(changed)}. Choose another --out"
            )
    fields = encode(run)
    write_json(config, fields | {"sha256": _hash(fields)})


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON for people and programs."""
    with whole(file) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def export(file: Path, run: Run, params: Params, step: int) -> None:
    """Write what sampling needs of a run as one file, which `open_run` and `trained_params` take as a run.

    Raises:
        OSError: the file cannot be written.
    """
    # data_dir is a path of this machine: it would give away names and mean nothing elsewhere.
    weights.write(file, params, encode(replace(run, data_dir="")) | {"step": step})


def open_run(place: Path) -> Run:
    """Read a run folder, or the file of one.

    Raises:
        FileNotFoundError: it is not there, or no run; or the text encoder is not there that a file names.
        ValueError: its configuration cannot be read.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"{place} does not exist: the folder of a run is needed, or a file of experiments.export"
        )
    if not place.is_file():
        return _open_folder(place)
    _, config = weights.read(place)
    run = _decoded(place, config)
    if isinstance(run.condition, FrozenText) and not Path(run.condition.folder).is_dir():
        raise FileNotFoundError(
            f"{place} needs the frozen text encoder {run.condition.folder}, which does not exist: put it"
            " there, the file has the model alone"
        )
    return run


def _open_folder(directory: Path) -> Run:
    config = directory / "config.json"
    if not config.exists():
        raise FileNotFoundError(
            f"{directory} is not a run folder: it has no config.json; train one with --out"
        )
    try:
        fields = json.loads(config.read_text())
        if fields.pop("sha256") != _hash(fields):
            raise ValueError("it is not as it was written")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{config} is damaged, or of another version of jaxflow: {error!r}") from None
    return _decoded(config, fields)


def _decoded(file: Path, fields: dict[str, Any]) -> Run:
    try:
        return Run(*(decode(fields[name]) for name in ("experiment", "data_dir", "image_shape", "condition")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is of another version of jaxflow: {error!r}") from None


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def trained_params(place: Path, run: Run, like: Params | None = None) -> Params:
    """The moving average of the parameters, see `newest_params`."""
    return newest_params(place, run, like)[1]


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
        params, config = weights.read(place)
        weights.check(place, params, like)
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
