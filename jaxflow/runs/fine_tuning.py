"""The run of a fine-tuning: a trained or published model, trained further on other pictures.

Of a low-rank adapter the run holds the factors alone; the model stays where it is and is read from there.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxflow import adapters
from jaxflow.adapters import Adapter
from jaxflow.data.codecs import Captions, Classes, difference
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import RESIZED, data_directory, open_dataset
from jaxflow.runs import cache, latents
from jaxflow.runs.configuration import FineTuning
from jaxflow.runs.frozen_text import FrozenText, with_embeddings
from jaxflow.runs.model import Model
from jaxflow.spaces import Latents
from jaxflow.spaces.pixels import ImageShape
from jaxflow.training.step import Params


@dataclass(frozen=True, eq=False)
class FineTuningRun:
    """A fine-tuning and what it needs to know about its data."""

    experiment: FineTuning
    data_dir: str
    """Folder of the data."""
    image_shape: ImageShape
    """Of the model's images."""
    base: Model | None = field(default=None, compare=False)
    """The model from which it starts; not stored."""

    @property
    def model(self) -> Model:
        """The model from which it starts."""
        assert self.base is not None
        return self.base

    def tuned(self, params: Params, step: int = 0) -> Model:
        """The model with trained parameters, or an adapter."""
        if self.experiment.rank is not None:
            params = adapters.merge(self.model.params, [(params, 1.0)])
        return dataclasses.replace(self.model, params=params, step=step)

    @property
    def with_frozen(self) -> Model:
        """The model as a function of what the loss takes: parameters, or adapter and frozen parameters."""
        network, shapes = self.model.network, _shapes(self.model.params)
        if self.experiment.rank is None:
            return self.model.at(shapes)
        apply = _apply(network)

        def adapted(params: Params, x: Any, t: Any, y: Any) -> Any:
            adapter, frozen = params
            return apply(adapters.merge(frozen, [(adapter, 1.0)]), x, t, y)

        return dataclasses.replace(self.model, network=adapted, params=(self.shapes, shapes))

    @cached_property
    def initial_params(self) -> Callable[[jax.Array], Adapter] | None:
        """A random key -> an adapter that changes nothing; None if the whole network is trained."""
        experiment, shapes = self.experiment, _shapes(self.model.params)
        if experiment.rank is None:
            return None
        rank, kernels = experiment.rank, experiment.kernels
        return lambda key: adapters.initial(key, shapes, rank, kernels)

    @property
    def shapes(self) -> Params:
        """Shapes of the trained parameters; nothing is computed."""
        if self.initial_params is None:
            return _shapes(self.model.params)
        return jax.eval_shape(self.initial_params, jax.eval_shape(jax.random.key, 0))

    def stored(self, dataset: Dataset) -> Dataset:
        """A data set with what the space stores of images, for training."""
        space = self.model.space
        return latents.with_moments(dataset, space.autoencoder) if isinstance(space, Latents) else dataset

    def fits(self, other: Any) -> bool:
        """Whether another run has images of the same shape."""
        return self.image_shape == other.image_shape


def open_pictures(experiment: FineTuning, model: Model, data_dir: str | None) -> Dataset:
    """The pictures, of the size of the model's images and with its kind of conditions.

    Raises:
        ValueError: they have another size, other classes, or captions where the model has classes.
    """
    height, width, _ = model.space.image_shape
    side = height if experiment.dataset in RESIZED else None
    if side is not None and height != width:
        raise ValueError(f"model: its images have {height} x {width} pixels: only square ones are trained")
    hold_out = {"image_size": side, "hold_out": experiment.hold_out}
    dataset: Dataset = open_dataset(experiment.dataset, "train", data_dir, **hold_out)  # type: ignore[arg-type]
    if dataset.image_shape != model.space.image_shape:
        raise ValueError(
            f"dataset = {experiment.dataset}: its images have the shape {dataset.image_shape}, those of the"
            f" model {model.space.image_shape}"
        )
    if isinstance(dataset.codec, Classes) != isinstance(model.codec, Classes):
        has = "classes" if isinstance(dataset.codec, Classes) else "captions"
        wants = "captions" if has == "classes" else "classes"
        raise ValueError(f"dataset = {experiment.dataset}: it has {has}, and the model {wants}")
    if isinstance(model.codec, FrozenText) and isinstance(dataset.codec, Captions):
        return with_embeddings(dataset, model.codec, cache.directory() / "captions")
    try:
        recoded = dataset.recode(model.codec)
    except ValueError:
        changed = difference(model.codec, dataset.codec)
        raise ValueError(
            f"dataset = {experiment.dataset}: it has classes or words that the model lacks: {changed}"
        ) from None
    return dataclasses.replace(recoded, notes=dataset.notes)


def new_fine_tuning_run(experiment: FineTuning, model: Model, data_dir: str | None) -> FineTuningRun:
    """The run of a fine-tuning of a model.

    Raises:
        ValueError: no kernel has a path that is to be adapted.
    """
    place, shape = str(data_directory(data_dir).absolute()), model.space.image_shape
    run = FineTuningRun(experiment, place, shape, model)  # type: ignore[arg-type]
    _ = run.shapes
    return run


def _shapes(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), params)


def _apply(network: Any) -> Callable[..., Any]:
    """A network as a function of its parameters."""
    if not hasattr(network, "apply"):
        return network
    return lambda params, x, t, y: network.apply({"params": params}, x, t, y)
