"""Common to the scripts that sample: opening a run on devices, and its generator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import UInt8

from experiments import presets
from jaxflow import ranges
from jaxflow.data.batches import load
from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.devices.blocks import in_blocks
from jaxflow.devices.parallel import Devices, Placement
from jaxflow.guidance import LogProb
from jaxflow.places import Place, place
from jaxflow.runs import folder, rules
from jaxflow.runs.generation import Generator, check_scale
from jaxflow.runs.model import Model
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow.spaces import Pixels
from jaxflow.training.noisy_classifier import train_noisy_classifier

Images = UInt8[np.ndarray, "n h w c"]
BLOCK = 32
"""Images that are encoded and decoded together."""


@dataclass(frozen=True)
class Source:
    """Options of the run, its data and the devices."""

    preset: str | None = None
    """The preset's file, if the run has networks, paths or data of its own; its code is executed."""
    data_dir: str | None = None
    """Folder of the prepared data sets, or of your images; if omitted, that of the training, and for an
    exported file TFDS_DATA_DIR or ~/tensorflow_datasets."""
    worse: str | None = None
    """A less trained run on the same data, for autoguidance."""
    classifier_steps: int = 1500
    """Training steps of the classifier of noisy images, for classifier guidance."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)

    def without_effect(self, rule: str) -> Iterator[str]:
        """A line for each option of a rule that was not chosen."""
        if self.worse is not None and rule != "autoguidance":
            yield "--worse has no effect without --rule autoguidance"
        if self.classifier_steps != type(self).classifier_steps and rule != "classifier":
            yield "--classifier-steps has no effect without --rule classifier"
        if self.data_dir is not None and rule != "classifier":
            yield "--data-dir has no effect without --rule classifier: no data are read"


@dataclass(frozen=True)
class Opened:
    """A run and its model, placed on devices; and a worse model, if there is one."""

    place: Place
    run: Run
    model: Model
    placement: Placement
    source: Source
    worse_place: Place | None
    worse_run: Run | None
    worse: Model | None
    own_dataset: Callable[[str], Dataset] | None

    def split(self, name: str) -> Dataset:
        """A split of the run's data."""
        if self.own_dataset is None:
            return self.run.open_split(name, self.source.data_dir)
        dataset = self.own_dataset(name)
        if not self.run.fits(dataset):
            raise ValueError(
                f"preset = {self.source.preset}: its dataset({name!r}) has other classes, words or image"
                " sizes than the run was trained on"
            )
        return dataset

    @property
    def decode(self) -> Callable[[Images], Images] | None:
        """Images -> the same as they come back from the space of the flow; None if it loses nothing."""
        space, sharding = self.run.space, self.placement.examples
        if isinstance(space, Pixels):
            return None
        through = lambda block: space.decode(space.encode(block))  # noqa: E731
        return lambda images: in_blocks(through, images, size=BLOCK, sharding=sharding, name="decode")

    def described(self, sampler: Sampler, rule: str, sigma: float, seed: int) -> dict[str, Any]:
        """How images were sampled, to be stored with their metrics."""
        solver = sampler.solver_name(self.model.prediction, sigma)
        return {**asdict(sampler), "solver": solver, "rule": rule, "sigma": sigma, "seed": seed}

    def check(self, sampler: Sampler, rule: str, sigma: float, scales: Sequence[float]) -> None:
        """Raise a ValueError that names an option with which the model cannot be sampled."""
        ranges.at_least(1, classifier_steps=self.source.classifier_steps)
        sampler.check(self.model.path, self.model.prediction, sigma)
        for w in scales:
            check_scale(rule, self.model.condition_dropout, w)
        rules.check(rule, worse=self.worse is not None, log_prob=isinstance(self.model.codec, Classes))

    def read(self) -> "Opened":
        """With the latest parameters instead of their shapes.

        Raises:
            ValueError: no checkpoint is intact.
            FileNotFoundError: there is none yet.
        """
        worse = None
        if self.worse is not None and self.worse_run is not None and self.worse_place is not None:
            worse = _read(self.worse_place, self.worse_run, self.worse)
        return replace(self, model=_read(self.place, self.run, self.model), worse=worse)

    def generator(self, sampler: Sampler, rule: str, sigma: float, log_prob: LogProb | None) -> Generator:
        """The generator of the model's images."""
        return Generator(self.model, sampler, self.placement.examples, rule, sigma, self.worse, log_prob)

    def classifier(self, rule: str, seed: int) -> LogProb | None:
        """A classifier of noisy events, trained now, if the rule needs one."""
        if rule != "classifier":
            return None
        space, train = self.model.space, load(self.run.stored(self.split("train")))
        return train_noisy_classifier(
            jax.random.fold_in(jax.random.key(seed), 1),
            self.model.path,
            jnp.asarray(train[space.entry]),
            jnp.asarray(train["y"]),
            len(self.model.classes),
            encode=space.events,
            steps=self.source.classifier_steps,
        )


def open_model(model: Place, source: Source) -> Opened:
    """The model of a run folder or an exported file, with shapes as parameters until `read`.

    Raises:
        ValueError: it cannot be read, or the worse model was trained on other data.
        OSError: it does not exist.
    """
    if source.data_dir is not None:
        source = replace(source, data_dir=str(place(source.data_dir, "data_dir")))
    worse_place = None if source.worse is None else place(source.worse, "worse")
    preset = None if source.preset is None else presets.load(source.preset)
    classes = () if preset is None else preset.classes
    run = folder.open_run(model, classes)
    placement = source.devices.placement(run.shapes)
    worse_run = None if worse_place is None else folder.open_run(worse_place, classes)
    if worse_run is not None and not run.fits(worse_run):
        raise ValueError(
            f"worse = {source.worse}: it was trained on other data, {worse_run.experiment.dataset}; it must"
            " have the classes or words, and the image size, of the model"
        )
    return Opened(
        place=model,
        run=run,
        model=_abstract(run, placement),
        placement=placement,
        source=source,
        worse_place=worse_place,
        worse_run=worse_run,
        worse=None if worse_run is None else _abstract(worse_run, placement),
        own_dataset=None if preset is None else preset.dataset,
    )


def _abstract(run: Run, placement: Placement) -> Model:
    return run.model(placement.shard(run.shapes))


def _read(where: Place, run: Run, model: Model) -> Model:
    step, params = folder.newest_params(where, run, model.params)
    return run.model(params, step)
