"""Common to the scripts that sample: opening a run on devices, and its generator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
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
from jaxflow.data.names import shown
from jaxflow.devices.blocks import in_blocks
from jaxflow.devices.parallel import Devices, Placement
from jaxflow.guidance import LogProb
from jaxflow.nn.attributes import Dtype
from jaxflow.places import Place, place
from jaxflow.runs import folder, loading, published, rules
from jaxflow.runs.generation import Generator, check_scale
from jaxflow.runs.maps import check_jump
from jaxflow.runs.model import Model
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import JUMP, Sampler, check_grid
from jaxflow.runs.settings import samplers_of
from jaxflow.spaces import Pixels
from jaxflow.training.noisy_classifier import train_noisy_classifier

Images = UInt8[np.ndarray, "n *image"]
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
    dtype: Dtype | None = None
    """Of a published network, float32 or bfloat16, which needs half the memory."""
    size: tuple[int, int] | None = None
    """Height and width of the images, where the network can have others than in training."""
    autoencoder: str | None = None
    """Folder or run of the autoencoder of a published network that lies alone; or one to use instead of the
    pipeline's."""
    adapters: tuple[str, ...] = ()
    """Files of low-rank adapters (LoRA) of a published network."""
    adapter_scales: tuple[float, ...] = ()
    """Scale of each; 1 if omitted."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)

    def scaled_adapters(self) -> dict[str, float]:
        """The scale of each adapter.

        Raises:
            ValueError: there are other numbers of them.
        """
        n, scales = len(self.adapters), self.adapter_scales or (1.0,) * len(self.adapters)
        if len(scales) != n:
            raise ValueError(f"adapter_scales: {len(scales)} numbers for {n} adapters: expected one for each")
        return dict(zip(self.adapters, scales, strict=True))

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
    """A model placed on devices; and a worse one, if there is one."""

    place: Place
    trained: Run | None
    """The run; None if the model is a published or fine-tuned one."""
    model: Model
    placement: Placement
    source: Source
    worse_place: Place | None
    worse_run: Run | None
    worse: Model | None
    own_dataset: Callable[[str], Dataset] | None
    loads: Callable[[], tuple[Model, Model | None]] | None = None
    """Reads the parameters of a published or fine-tuned model, and of the worse one."""

    @property
    def run(self) -> Run:
        """The run.

        Raises:
            ValueError: the model is a published or fine-tuned one.
        """
        if self.trained is None:
            raise ValueError(f"{self.place}: published and fine-tuned models have no data to compare with")
        return self.trained

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
        space, sharding = self.model.space, self.placement.examples
        if isinstance(space, Pixels):
            return None
        through = lambda block: space.decode(space.encode(block))  # noqa: E731
        return lambda images: in_blocks(through, images, size=BLOCK, sharding=sharding, name="decode")

    def samplers(self, sampler: Sampler, calls: Sequence[int]) -> dict[int | None, Sampler]:
        """The samplers to compare, `settings.samplers_of` for the model."""
        return samplers_of(sampler, calls, is_map=self.model.is_map)

    def described(
        self, samplers: dict[int | None, Sampler], rule: str, sigma: float, seed: int
    ) -> dict[str, Any]:
        """How images were sampled, to be stored with their metrics."""
        calls, sampler = [*samplers], next(iter(samplers.values()))
        solver = sampler.solver_name(self.model.prediction, sigma)
        named = {"solver": solver, "shift": self.shift(sampler), "rule": rule, "sigma": sigma, "seed": seed}
        return asdict(sampler) | named | ({"steps": calls} if solver == JUMP else {})

    def shift(self, sampler: Sampler) -> float:
        """Of the time grid."""
        return self.model.shift if sampler.shift is None else sampler.shift

    def check(self, sampler: Sampler, rule: str, sigma: float, scales: Sequence[float]) -> None:
        """Raise a ValueError that names an option with which the model cannot be sampled."""
        ranges.at_least(1, classifier_steps=self.source.classifier_steps)
        path, prediction = self.model.path, self.model.prediction
        sampler.check(path, prediction, sigma)
        sampler.check_clip(self.model.space)
        for w in scales:
            check_scale(rule, self.model.condition_dropout, w)
            if sampler.solver == JUMP:
                check_jump(self.model.network, rule, w)
        if self.trained is None:  # a generator would check it too, but after the weights have been read
            times = sampler.times(path, prediction, self.model.shift)
            check_grid(sampler.solver_name(prediction, sigma), path, times, sampler.clip)
        has_classifier = self.trained is not None and isinstance(self.model.codec, Classes)
        given = {"worse": self.worse is not None, "log_prob": has_classifier}
        rules.check(rule, **given, network=True, head=self.model.outputs is not None)

    def read(self) -> "Opened":
        """With the latest parameters instead of their shapes.

        Raises:
            ValueError: no checkpoint is intact.
            FileNotFoundError: there is none yet.
        """
        if self.loads is not None:
            model, worse = self.loads()
            return replace(self, model=model, worse=worse)
        worse = self.worse
        if worse is not None and self.worse_run is not None and self.worse_place is not None:
            worse = _read(self.worse_place, self.worse_run, worse)
        return replace(self, model=_read(self.place, self.run, self.model), worse=worse)

    def generate(
        self, samplers: dict[int | None, Sampler], rule: str, sigma: float, log_prob: LogProb | None
    ) -> Callable[..., Images]:
        """(request, setting, ...) -> images, by the sampler for the setting's number of calls."""
        by_calls = {
            calls: self.generator(sampler, rule, sigma, log_prob) for calls, sampler in samplers.items()
        }
        return lambda wanted, setting, **options: by_calls[setting.calls](wanted, setting.w, **options)

    def generator(self, sampler: Sampler, rule: str, sigma: float, log_prob: LogProb | None) -> Generator:
        """The generator of the model's images."""
        guides: dict[str, Any] = {
            "worse": self.worse,
            "log_prob": log_prob,
            "show_steps": self._shows_steps,
        }
        return Generator(self.model, sampler, self.placement.examples, rule, sigma, **guides)

    def class_of(self, option: str, label: str) -> int:
        """The number of a class by its name, or else by its number; `option` is where it was given."""
        codec = self.model.codec
        try:
            return int(codec.encode(label))
        except ValueError as error:
            digits = label.removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
                raise ValueError(f"{option}: {error}") from None
        try:
            return int(codec.encode(int(label)))
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        if self.trained is None:
            return shown(self.place.name)
        return f"{self.run.experiment.dataset}, step {self.model.step:,}"

    @property
    def origin(self) -> dict[str, str]:
        """Where it comes from, by name."""
        if self.trained is not None:
            name = type(self.run.experiment.network).__name__
            return {"data": self.run.experiment.dataset, "step": f"{self.model.step:,}", "network": name}
        if loading.is_fine_tuning(self.place):
            return {"tuned": f"{self.model.step:,} steps"}
        return {"pipeline": published.kind(Path(self.place))}

    @property
    def _shows_steps(self) -> bool:
        """Whether the bar counts steps, for networks that are slow."""
        # Over several CPUs a callback in the loop and its collectives may wait for each other (JAX 0.10.2).
        return self.trained is None and self.placement.examples.mesh.size == 1

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
    """A published model, or that of a run folder or an exported file, with shapes as parameters until `read`.

    Raises:
        ValueError: it cannot be read, or the worse model was trained on other data.
        OSError: it does not exist.
    """
    if source.data_dir is not None:
        source = replace(source, data_dir=str(place(source.data_dir, "data_dir")))
    worse_place = None if source.worse is None else place(source.worse, "worse")
    preset = None if source.preset is None else presets.load(source.preset)
    classes = () if preset is None else preset.classes
    own_dataset = None if preset is None else preset.dataset
    if loading.is_published(model) or loading.is_fine_tuning(model):
        return _open_loaded(model, source, worse_place, own_dataset)
    if source.dtype is not None:
        raise ValueError(f"dtype = {source.dtype}: {model} is a run, which has its own")
    if source.autoencoder is not None:
        raise ValueError(f"autoencoder = {source.autoencoder}: {model} is a run, which has its own")
    if source.adapters:
        raise ValueError(f"adapters: {model} is a run; adapters in files are those of published models")
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
        trained=run,
        model=_abstract(run, placement, source),
        placement=placement,
        source=source,
        worse_place=worse_place,
        worse_run=worse_run,
        worse=None if worse_run is None else _abstract(worse_run, placement, source),
        own_dataset=own_dataset,
    )


def _open_loaded(
    where: Place, source: Source, worse_place: Place | None, own_dataset: Callable[[str], Dataset] | None
) -> Opened:
    options: dict[str, Any] = {"dtype": source.dtype, "size": source.size, "autoencoder": source.autoencoder}
    model, read = loading.opened(where, adapters=source.scaled_adapters(), **options)
    worse, read_worse = (None, None) if worse_place is None else loading.opened(worse_place, **options)
    placement = source.devices.placement(model.params)

    def placed(model: Model) -> Model:
        shardings = jax.tree.map(lambda leaf: leaf.sharding, placement.shard(_shapes(model.params)))
        return model.at(jax.device_put(model.params, shardings))

    def loads() -> tuple[Model, Model | None]:
        if worse is not None and not _alike(model, worse):
            raise ValueError(
                f"worse = {source.worse}: it must have the image size and the kind of conditions of the model"
            )
        return placed(read()), None if read_worse is None else placed(read_worse())

    return Opened(
        place=where,
        trained=None,
        model=model,
        placement=placement,
        source=source,
        worse_place=worse_place,
        worse_run=None,
        worse=worse,
        own_dataset=own_dataset,
        loads=loads,
    )


def _alike(model: Model, worse: Model) -> bool:
    """Whether the same noise and conditions go into both."""
    conditions = (jax.tree.map(np.shape, one.null) for one in (model, worse))
    return model.space.image_shape == worse.space.image_shape and next(conditions) == next(conditions)


def _shapes(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)


def _abstract(run: Run, placement: Placement, source: Source) -> Model:
    model = run.model(placement.shard(run.shapes))
    return model if source.size is None else model.resized(*source.size)


def _read(where: Place, run: Run, model: Model) -> Model:
    step, params = folder.newest_params(where, run, model.params)
    return replace(model, params=params, step=step)
