"""An experiment as one frozen value: everything a run depends on except its data."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args, runtime_checkable

import flax.linen as linen
from annotated_types import Ge, Gt, Interval

from jaxflow import nn
from jaxflow.adapters import ATTENTION
from jaxflow.autoencoding import Distortion
from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.data.folder import HOLD_OUT, MOST_SIZE
from jaxflow.fields import has_auxiliary
from jaxflow.predictions import Prediction
from jaxflow.ranges import SEEDS, quoted
from jaxflow.runs import schema
from jaxflow.spaces.autoencoder import Network as AutoencoderNetwork
from jaxflow.typing import GaussianPath

MOST_FRAMES = 4096
Count = Annotated[int, Interval(ge=1, le=2**31 - 1)]
Steps = Annotated[int, Interval(ge=1, le=2**24)]
"""Largest count that float32, in which the schedules are computed, represents exactly."""
Share = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]


@runtime_checkable
class Network(Protocol):
    """A Flax module, or any frozen dataclass with `init(key, x, t, y)` and `apply(params, x, t, y)`."""

    @property
    def init(self) -> Callable[..., Any]:
        """The initial parameters."""
        ...

    @property
    def apply(self) -> Callable[..., Any]:
        """The prediction, with the shape of x."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is common to all trainings: data, optimiser and intervals."""

    dataset: str
    """TFDS name of the data set, or `folder`."""
    steps: Steps
    """Training steps."""
    batch_size: Count = 128
    """Examples in a step."""
    accumulate: Count = 1
    """Micro-batches per step, computed one by one, for batches that do not fit into memory."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon learns more per step if most parameters are matrices, as in transformers."""
    learning_rate: Positive = 1e-3
    """Peak, after the warm-up; ten times that for Muon's matrices."""
    warmup: Annotated[int, Interval(ge=0, le=2**24)] = 200
    """Steps of linear warm-up, at most a tenth of all steps."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled from the gradient."""
    clip: Positive = 1.0
    """Largest global norm of a gradient."""
    ema: Share = 0.999
    """Decay of the moving average of the parameters, which is used for sampling."""
    image_size: Annotated[int, Interval(ge=1, le=MOST_SIZE)] | None = None
    """Side in pixels to which the images of a folder, or emoji, are resized; others have a fixed size."""
    frames: Annotated[int, Interval(ge=2, le=MOST_FRAMES)] | None = None
    """Frames of a clip: of a folder's the middle ones, of others the first."""
    rate: Positive | None = None
    """Frames per second at which these are taken; if None, one after the other."""
    hold_out: Annotated[float, Interval(ge=0, lt=1)] = HOLD_OUT
    """Share of a folder's images held out for `evaluate`; 0 to train on all. Other data sets have splits."""
    seed: Annotated[int, Interval(ge=0, lt=SEEDS)] = 0
    """Of the initial parameters, the order of the examples, times and noise."""
    checkpoint_every: Annotated[int, Interval(ge=2, le=2**31 - 1)] = 500
    """Largest number of steps that a kill can lose; checkpoints are started at half that interval."""
    log_every: Count = 50
    """Steps between lines of metrics.jsonl."""
    sample_every: Annotated[int, Ge(0)] = 500
    """Steps between grids of samples; 0 for none."""


Objective = Literal["field", "mean_flow", "improved_mean_flow", "lagrangian", "shortcut", "consistency"]
"""What a flow's network learns."""
OBJECTIVES: tuple[str, ...] = get_args(Objective)


@dataclass(frozen=True, kw_only=True)
class Experiment(Recipe):
    """The training of a flow: what a preset returns."""

    network: Network
    """Its encoder is None if it depends on the data; `fitted` sets it."""
    path: GaussianPath
    prediction: Prediction = "velocity"
    """What the network predicts."""
    objective: Objective = "field"
    """The velocity field; or its map, with which one call jumps from noise to data, by one of the identities
    of `map_losses`."""
    w_most: Annotated[float, Gt(1)] | None = None
    """Largest guidance scale inside a map, as an input of its network; None for a map without guidance."""
    distill: str | None = None
    """Run of a field whose map is learnt, with its guidance inside; its network, if it has the same one, is
    the start. If None, the data teach the map."""
    distill_rule: str = "classifier_free"
    """Guidance rule of that field, by its name in `jaxflow.runs.rules`; its scale is an input of the map."""
    instants: Share = 0.5
    """Share of examples in which a map learns the velocity, the jump of no length; none in `consistency`."""
    adaptive: Annotated[float, Interval(ge=0, le=2)] = 1.0
    """Power of the squared error by which the loss of a map is divided; 0 for none."""
    weight: Literal["own", "velocity", "minimum_snr", "sigmoid"] = "own"
    """Weight of the loss: the prediction's own, the one that makes it flow matching of the velocity, or one
    by the signal-to-noise ratio, which makes it the same for every prediction."""
    weight_limit: Positive | None = None
    """Largest weight of `velocity`, which otherwise diverges: at t = 1 for data, at t = 0 for noise. Largest
    weight of the error of the data by the other two: gamma of `minimum_snr`, if None 5, and e^bias of
    `sigmoid`, if None e^2."""
    edge_weight: Annotated[float, Ge(0)] = 0.0
    """Of the differences of neighbouring pixels in the error, for sharper drawing; 0 for none."""
    coupling: Literal["independent", "optimal_transport", "optimal_transport_by_class"] = "independent"
    """Of noise and data in a batch: `optimal_transport` straightens the paths, but ignores conditions, which
    biases guided samples; by class it does not."""
    condition_dropout: Share = 0.1
    """Probability eta that an example's condition is replaced by null."""
    time_distribution: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of t in training."""
    time_mean: float = 0.0
    """Mean of logit t under `logit_normal`; below 0 for more noise."""
    time_deviation: Positive = 1.0
    """Standard deviation of logit t."""
    auxiliary_weight: Annotated[float, Ge(0)] = 0.0
    """Of a second loss, that of the network's auxiliary head, for internal guidance; 0.5 as published."""
    still_weight: Annotated[float, Ge(0)] = 0.0
    """Of a second loss of clips, that of their first frame alone as an image; 0 for none."""
    inflate: str | None = None
    """Run of images whose network, in time as in `nn.inflation`, is the start of one of clips."""
    text_encoder: str | None = None
    """Folder of a pretrained CLIP or T5 encoder for the captions; if None, a small one is trained."""
    autoencoder: str | None = None
    """Folder of an autoencoder, in whose latents the flow runs; if None, it runs in pixels. Empty in a preset
    that needs one."""
    latent_scale: Literal["measured", "published"] = "measured"
    """How latents are centred and scaled: by channel as measured on the data, or as published with them."""


@dataclass(frozen=True, kw_only=True)
class Autoencoding(Recipe):
    """The training of an autoencoder, in whose latents a flow may then be trained."""

    network: AutoencoderNetwork
    """Its images have the channels of the data; `fitted` sets them."""
    distortion: Distortion = "l1"
    """Absolute differences of pixels, or half the squared ones."""
    beta: Annotated[float, Ge(0)] = 1e-4
    """Weight of the divergence of the latents from N(0, I), if the network is variational."""
    beta_warmup: Annotated[int, Interval(ge=0, le=2**24)] = 0
    """Steps in which the weight rises from 0."""
    perceptual: str | None = None
    """Folder of VGG16, with the weights of LPIPS or without, for a perceptual term; None for none."""
    perceptual_weight: Positive = 1.0
    """Of the perceptual distance, beside the mean distortion of a pixel."""
    adversarial_weight: Annotated[float, Ge(0)] = 0.0
    """Of the verdict of a discriminator, which is trained beside; 0 for none."""
    adversarial_start: Annotated[int, Interval(ge=0, le=2**24)] = 0
    """Steps before the verdict counts, in which the discriminator already learns."""
    discriminator: nn.Discriminator = field(default_factory=nn.Discriminator)


@dataclass(frozen=True, kw_only=True)
class FineTuning(Recipe):
    """The further training of a model on other pictures."""

    model: str = ""
    """The run folder, the exported file, or the folder of a published pipeline."""
    rank: Annotated[int, Interval(ge=1, le=4096)] | None = 8
    """Of a low-rank adapter, while the model is frozen; None to train the whole network."""
    kernels: str = ATTENTION
    """Regular expression in the paths of the adapted kernels."""
    condition_dropout: Share = 0.1
    """Probability that an example's condition is replaced by null."""
    time_distribution: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of t in training."""


FOLDERS = {
    "text_encoder": "a CLIP or T5 encoder",
    "autoencoder": "an autoencoder",
    "perceptual": "VGG16",
}
"""Fields that name a folder of frozen weights, and what it has."""


def apply_of(network: Network) -> Any:
    """The network as `fields.from_network` takes it: a Flax module itself, otherwise its `apply`."""
    return network if isinstance(network, linen.Module) else network.apply


def check(experiment: Recipe) -> None:
    """Raise a ValueError that names the first field that is out of range or that config.json cannot hold."""
    classes = tuple(kind for kind in schema.classes_in(experiment) if kind not in schema.CLASSES)
    try:
        hash(experiment)
    except TypeError as error:
        raise ValueError(f"network, path: must be frozen dataclasses: {error}") from None
    text = json.dumps(schema.encode(experiment, classes))
    if schema.decode(json.loads(text), type(experiment), classes) != experiment:
        raise ValueError("the experiment does not survive being written to config.json and read again")
    if isinstance(experiment, Experiment):
        _check_weight(experiment)
        _check_auxiliary(experiment)
        _check_map(experiment)
    for name, kind in FOLDERS.items():
        folder = getattr(experiment, name, None)
        if folder == "":
            raise ValueError(f"{name} is missing: the preset needs {kind}, --{name} FOLDER")
        if folder is not None and not Path(folder).expanduser().is_dir():
            raise FileNotFoundError(f"{name} = {folder}: no such folder; name that of {kind}")


def _check_weight(experiment: Experiment) -> None:
    unbounded = experiment.weight == "velocity" and experiment.prediction in ("noise", "data", "score")
    if unbounded and experiment.weight_limit is None:
        raise ValueError(
            f"weight_limit is missing: with weight = 'velocity' the loss weight of {experiment.prediction}"
            " prediction diverges at t = 0 or t = 1; 10 works well"
        )


def _check_auxiliary(experiment: Experiment) -> None:
    weight, has = experiment.auxiliary_weight, has_auxiliary(experiment.network)
    if weight and experiment.objective != "field":
        raise ValueError(f"auxiliary_weight = {weight}: of fields, and the objective is a map")
    if weight and not has:
        raise ValueError(
            f"auxiliary_weight = {weight}: the network has no auxiliary head; give its --network.auxiliary a"
            " number of blocks"
        )
    if has and not weight:
        raise ValueError(
            "auxiliary_weight = 0: the auxiliary head of the network would learn nothing; 0.5 works well"
        )


def _check_map(experiment: Experiment) -> None:
    if experiment.objective == "field":
        if experiment.w_most is not None:
            raise ValueError(f"w_most = {experiment.w_most}: of maps, and objective = 'field'")
        if experiment.distill is not None:
            raise ValueError(f"distill = {experiment.distill}: into a map, and objective = 'field'")
        return
    if experiment.distill == "":
        raise ValueError("distill is missing: the preset needs a trained field, --distill RUN")
    if experiment.distill_rule != "classifier_free" and None in (experiment.distill, experiment.w_most):
        raise ValueError(
            f"distill_rule = {quoted(experiment.distill_rule)}: has no effect without --distill and --w-most"
        )
    if not hasattr(experiment.network, "encode"):
        raise ValueError(
            f"objective = {experiment.objective!r}: the network has no attribute `encode`, which a map needs"
        )
    if experiment.still_weight:
        raise ValueError(f"still_weight = {experiment.still_weight}: of fields, and the objective is a map")
    if experiment.coupling != "independent":
        raise ValueError(f"coupling = {experiment.coupling!r}: of fields, and the objective is a map")


def fitted(experiment: Experiment, codec: Codec) -> Experiment:
    """A flow's experiment with the encoder that its data and its objective need."""
    experiment = _with_encoder(experiment, codec)
    network: Any = experiment.network
    if experiment.objective == "field" or isinstance(network.encode, nn.JumpEncoder):
        return experiment
    encode = nn.JumpEncoder(network.encode, experiment.w_most)
    return dataclasses.replace(experiment, network=network.clone(encode=encode))


def _with_encoder(experiment: Experiment, codec: Codec) -> Experiment:
    """That of the data, if the preset sets none."""
    network: Any = experiment.network
    if not isinstance(network, linen.Module) or getattr(network, "encode", network) is not None:
        return experiment
    encode: linen.Module
    if isinstance(codec, Classes):
        encode = nn.ClassTable(len(codec.names))
    elif isinstance(codec, Captions):
        encode = nn.TextEncoder(codec.vocabulary)
    else:
        encode = nn.TokenProjection()
    network = network.clone(encode=encode)
    if isinstance(network, nn.DiT) and not isinstance(codec, Classes) and not network.joint_attention:
        network = network.clone(cross_attention=True)
    if isinstance(network, nn.UNet) and isinstance(codec, Classes):  # which have no tokens
        network = network.clone(cross_attention=())
    return dataclasses.replace(experiment, network=network)


RESUMABLE = ("steps", "learning_rate", "accumulate", "checkpoint_every", "log_every", "sample_every")
"""What may change when a run is resumed."""
MOST_NAMED, LONGEST = 5, 40
"""Most differences in a message, and most characters of a value."""


def described(value: Any, name: str = "") -> dict[str, str]:
    """Each number and name in a configuration, with its class where it is an object, as text.

    >>> from jaxflow import paths
    >>> described((paths.VariancePreserving(),), "path")
    {'path[0]': 'VariancePreserving', 'path[0].beta_min': '0.1', 'path[0].beta_max': '20.0'}
    """
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        parts = [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        return {key: text for each, item in parts for key, text in described(item, each).items()}
    if not dataclasses.is_dataclass(value):
        return {name: str(value)}
    found = {name: type(value).__name__} if name else {}
    for each in schema.fields_of(type(value)):
        found |= described(getattr(value, each.name), f"{name}.{each.name}".lstrip("."))
    return found


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Fields that differ although resuming must not change them, as text."""
    before, after = described(old), described(new)
    changed = [
        f"{name} was {_short(before.get(name, 'absent'))} and is {_short(after.get(name, 'absent'))}"
        for name in before | after
        if name.split(".")[0] not in RESUMABLE and before.get(name) != after.get(name)
    ]
    more = [f"{len(changed) - MOST_NAMED} more"] if len(changed) > MOST_NAMED else []
    return changed[:MOST_NAMED] + more


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
