"""A run: what training, sampling and evaluation share, an experiment and the form of its data."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.runs import cache
from jaxflow.runs.configuration import Experiment
from jaxflow.runs.frozen_text import FrozenText, with_embeddings
from jaxflow import fields
from jaxflow.data.conditions import Classes, Condition
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import data_directory, open_dataset
from jaxflow.training.step import Params
from jaxflow.typing import GuidedField


@dataclass(frozen=True)
class Run:
    """An experiment on its data, as far as they are known without reading them."""

    experiment: Experiment
    data_dir: str
    """Folder of the data; empty in a run that was opened from a file."""
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
