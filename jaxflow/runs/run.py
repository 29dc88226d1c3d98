"""A run: an experiment and the format of its data: everything about a model except its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import nn
from jaxflow.data.codecs import Classes, Codec
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import data_directory, open_dataset
from jaxflow.nn.jumps import unguided
from jaxflow.runs import cache, latents
from jaxflow.runs.configuration import Experiment, Recipe, apply_of
from jaxflow.runs.frozen_text import FrozenText, with_embeddings
from jaxflow.runs.model import Model
from jaxflow.spaces import Autoencoder, Latents, Pixels, Space
from jaxflow.training.step import Params


@dataclass(frozen=True)
class Run:
    """An experiment and what it needs to know about its data."""

    experiment: Experiment
    data_dir: str
    """Folder of the data; empty in a run opened from an exported file."""
    space: Space
    """Where the flow lives."""
    codec: Codec
    """Encodes the images' labels or captions."""

    def model(self, params: Params, step: int = 0) -> Model:
        """The model with these parameters."""
        experiment = self.experiment
        return Model(
            network=apply_of(experiment.network),
            params=params,
            path=experiment.path,
            prediction=experiment.prediction,
            codec=self.codec,
            space=self.space,
            condition_dropout=experiment.condition_dropout,
            step=step,
        )

    @cached_property
    def initial_params(self) -> Callable[[jax.Array], Params]:
        """A random key -> initial parameters of the network, traced once."""
        return jax.jit(self._initial_params)

    @cached_property
    def shapes(self) -> Params:
        """Shapes of the parameters; nothing is computed."""
        return jax.eval_shape(self.initial_params, jax.eval_shape(jax.random.key, 0))

    def _initial_params(self, key: jax.Array) -> Params:
        network = self.experiment.network
        x, t = jnp.zeros((1, *self.space.event_shape)), jnp.zeros(1)
        y = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self.codec.null)
        if self.experiment.objective != "field":
            y = nn.Jump(y, t, unguided(1))
        params = network.init(key, x, t, y)
        return params["params"] if isinstance(network, linen.Module) else params

    def open_split(self, split: str, data_dir: str | None = None) -> Dataset:
        """A split of the run's data set.

        Raises:
            ValueError: it has classes or words that are not in the training data, or another image size.
        """
        if data_dir is None:
            data_dir = self.data_dir or None
        dataset = open_data(self.experiment, split, data_dir)
        place = f"data_dir = {data_directory(data_dir)}: its {self.experiment.dataset}"
        if dataset.image_shape != self.space.image_shape:
            was, now = self.space.image_shape, dataset.image_shape
            raise ValueError(f"{place} has images of the shape {now}, and the run was trained on {was}")
        try:
            return dataset.recode(self.codec)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def stored(self, dataset: Dataset) -> Dataset:
        """A data set with what the space stores of images, for training."""
        if isinstance(self.space, Latents):
            return latents.with_moments(dataset, self.space.autoencoder)
        return dataset

    def fits(self, other: Any) -> bool:
        """Whether a data set, or another run, has the same image shape and the same classes or words."""
        shape = other.space.image_shape if isinstance(other, Run) else other.image_shape
        return (self.codec, self.space.image_shape) == (other.codec, shape)


def open_data(experiment: Recipe, split: str, data_dir: str | None) -> Dataset:
    """A split of an experiment's data set, with embedded captions if it has a frozen text encoder."""
    options = {name: getattr(experiment, name) for name in ("image_size", "frames", "rate", "hold_out")}
    dataset = open_dataset(experiment.dataset, split, data_dir, **options)
    encoder = experiment.text_encoder if isinstance(experiment, Experiment) else None
    if encoder is None:
        return dataset
    return with_embeddings(dataset, FrozenText(encoder), cache.directory() / "captions")


def new_run(
    experiment: Experiment, dataset: Dataset, data_dir: str | None, space: Space | Autoencoder | None = None
) -> Run:
    """The run of an experiment on a data set.

    Args:
        experiment: the training.
        dataset: of images.
        data_dir: its folder.
        space: of the flow, as of a run that is resumed; or the autoencoder in whose latents over the data set
            it runs; if None, pixels.

    Raises:
        ValueError: the network does not fit the images or their latents, or the autoencoder the images.
    """
    if space is None:
        space = Pixels(dataset.image_shape)
    elif isinstance(space, Autoencoder):
        space = latents.space_of(dataset, space, experiment.latent_scale)
    if experiment.still_weight and len(space.event_shape) != 4:
        raise ValueError(f"still_weight = {experiment.still_weight}: of clips, and the data are images")
    if experiment.coupling == "optimal_transport_by_class" and not isinstance(dataset.codec, Classes):
        raise ValueError(f"coupling = {experiment.coupling!r}: the data have captions, not classes")
    run = Run(experiment, str(data_directory(data_dir).absolute()), space, dataset.codec)
    check_network(run)
    return run


def check_network(run: Run) -> None:
    """Build the network and evaluate it once on shapes: nothing is computed.

    Raises:
        ValueError: it cannot be built, or its output does not have the shape of x.
    """
    try:
        model = run.model(run.shapes)
        example = (np.zeros(run.space.event_shape, np.float32), np.zeros((), np.float32), model.null)
        two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), example)
        jax.eval_shape(lambda params, x, t, y: model.at(params).field(x, t, y), model.params, *two)
    except Exception as error:  # whatever a network raises on attributes that do not fit together
        raise ValueError(f"network: {error}") from error
