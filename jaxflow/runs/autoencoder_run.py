"""The run of an autoencoder: its training, and the shape of its images; everything but its parameters."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow.data.batches import Batch
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import data_directory
from jaxflow.runs.configuration import Autoencoding
from jaxflow.spaces import Autoencoder
from jaxflow.spaces.pixels import ImageShape
from jaxflow.training.step import Params


@dataclass(frozen=True)
class AutoencoderRun:
    """A training and what it needs to know about its data."""

    experiment: Autoencoding
    data_dir: str
    """Folder of the data."""
    image_shape: ImageShape
    """Of the images it is trained on; it takes others, of as many channels, too."""

    def autoencoder(self, params: Params) -> Autoencoder:
        """The autoencoder with these parameters of the run."""
        return Autoencoder(self.experiment.network, params["autoencoder"])

    @cached_property
    def initial_params(self) -> Callable[[jax.Array], Params]:
        """A random key -> initial parameters of the networks, compiled."""
        return jax.jit(self._initial_params)

    @property
    def shapes(self) -> Params:
        """Shapes of the parameters; nothing is computed."""
        return jax.eval_shape(self._initial_params, jax.eval_shape(jax.random.key, 0))

    def _initial_params(self, key: jax.Array) -> Params:
        experiment, images = self.experiment, jnp.zeros((1, *self.image_shape))
        params = {"autoencoder": Autoencoder(experiment.network).initial_params(key)}
        if experiment.adversarial_weight:
            params["discriminator"] = experiment.discriminator.init(jax.random.fold_in(key, 1), images)[
                "params"
            ]
        return params

    def stored(self, dataset: Dataset) -> Dataset:
        """The data set: images are read as they are."""
        return dataset

    def fits(self, other: Any) -> bool:
        """Whether another run has images of the same shape."""
        return self.image_shape == other.image_shape

    def warmed(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        """Batches, from number `start`, with the weights (b,) in their step, `beta` and `adversarial`."""
        experiment = self.experiment
        for n, batch in enumerate(batches, start):
            rise = min(1.0, (n + 1) / experiment.beta_warmup) if experiment.beta_warmup else 1.0
            judged = experiment.adversarial_weight if n >= experiment.adversarial_start else 0.0
            weights, number = {"beta": rise * experiment.beta, "adversarial": judged}, batch["number"]
            yield batch | {
                name: jnp.full(number.shape, weight, np.float32, device=number.sharding)
                for name, weight in weights.items()
            }


def new_autoencoder_run(experiment: Autoencoding, dataset: Dataset, data_dir: str | None) -> AutoencoderRun:
    """The run of an autoencoder on a data set, whose network is given the channels of its images.

    Raises:
        ValueError: the network cannot be built, or does not take such images.
    """
    if len(dataset.image_shape) == 4 and (experiment.perceptual or experiment.adversarial_weight):
        raise ValueError("perceptual, adversarial_weight: of images, and the data are clips")
    network = dataclasses.replace(experiment.network, image_channels=dataset.image_shape[-1])  # type: ignore[type-var]
    experiment = dataclasses.replace(experiment, network=network)
    run = AutoencoderRun(experiment, str(data_directory(data_dir).absolute()), dataset.image_shape)
    try:
        Autoencoder(network).latent_shape(dataset.image_shape)
        _ = run.shapes
    except Exception as error:  # whatever a network raises on attributes that do not fit together
        raise ValueError(f"network: {error}") from error
    return run
