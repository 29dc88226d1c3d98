"""A run folder: what was trained, on what, and what came of it.

config.json     the experiment, the data set's shape and class names, the data folder
metrics.jsonl   a line every few steps
checkpoints/    the training state, by step
samples/        grids and arrays of `sample`
evaluation.*    table and curves of `evaluate`
"""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.experiment import Experiment, decode, differences, encode
from jaxflow import fields
from jaxflow.data.datasets import Dataset, data_directory, open_dataset
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.step import Params
from jaxflow.typing import GuidedField


@dataclass(frozen=True)
class Run:
    """What sampling and evaluation need to know of a training run."""

    experiment: Experiment
    data_dir: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    @property
    def null(self) -> int:
        """The label that says nothing, one past the last class."""
        return len(self.class_names)

    def initial_params(self, key: jax.Array) -> Params:
        """Parameters of the network before training."""
        x, t, y = jnp.zeros((1, *self.image_shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
        return self.experiment.network.init(key, x, t, y)["params"]

    def field(self, params: Params) -> GuidedField:
        """The velocity field of the network with these parameters."""
        return fields.from_network(self.experiment.network, params, self.experiment.path)

    def open_split(self, split: str, data_dir: str | None = None) -> Dataset:
        """A split of the run's data set."""
        return open_dataset(self.experiment.dataset, split, data_dir or self.data_dir)


def start_or_resume(directory: Path, experiment: Experiment, dataset: Dataset, data_dir: str | None) -> Run:
    """Make the run folder, or check that the one that is there is of the same experiment.

    Raises:
        ValueError: the folder holds another experiment; the message lists what differs.
        OSError: the folder cannot be written.
    """
    folder = str(data_directory(data_dir).absolute())
    run = Run(experiment, folder, dataset.image_shape, dataset.class_names)
    jax.eval_shape(run.initial_params, jax.random.key(0))  # the network fits the images
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.json"
    if config.exists():
        changed = differences(open_run(directory).experiment, experiment)
        if changed:
            raise ValueError(
                f"{directory} holds another experiment: {'; '.join(changed)}. Choose another --out"
            )
    aside = directory / "config.json.new"
    aside.write_text(json.dumps(encode(run), indent=2) + "\n")
    aside.replace(config)
    return run


def open_run(directory: Path) -> Run:
    """Read a run folder.

    Raises:
        FileNotFoundError: the folder is not a run.
    """
    config = directory / "config.json"
    if not config.exists():
        raise FileNotFoundError(
            f"{directory} is not a run folder: it has no config.json; train one with --out"
        )
    fields = json.loads(config.read_text())
    return Run(*(decode(fields[name]) for name in ("experiment", "data_dir", "image_shape", "class_names")))


def trained_params(directory: Path, run: Run) -> Params:
    """The moving average of the parameters at the newest checkpoint.

    Raises:
        FileNotFoundError: there is no checkpoint yet.
    """
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if checkpoints.latest is None:
            raise FileNotFoundError(f"{directory} has no checkpoint yet: let experiments.train run longer")
        return checkpoints.restore_ema(jax.eval_shape(run.initial_params, jax.random.key(0)))
