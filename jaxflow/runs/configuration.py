"""An experiment as one frozen value: everything that a run depends on, but for its data."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import flax.linen as linen
from annotated_types import Ge, Gt, Interval

from jaxflow import nn
from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.predictions import Prediction
from jaxflow.ranges import SEEDS
from jaxflow.runs import schema
from jaxflow.typing import GaussianPath

Count = Annotated[int, Interval(ge=1, le=2**31 - 1)]
Share = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]


@runtime_checkable
class Network(Protocol):
    """A Flax module, or any frozen dataclass with `init(key, x, t, y)` and `apply(params, x, t, y)`."""

    @property
    def init(self) -> Callable[..., Any]:
        """Parameters before training."""
        ...

    @property
    def apply(self) -> Callable[..., Any]:
        """The prediction, of x's shape."""
        ...


@dataclass(frozen=True)
class Experiment:
    """A preset is a function that returns one."""

    dataset: str
    """TFDS name of the data set, or `folder`."""
    network: Network
    """Its encoder is None where it depends on the data; `fitted` fills it in."""
    path: GaussianPath
    steps: Count
    """Training steps."""
    prediction: Prediction = "velocity"
    """What the network answers."""
    weight: Literal["own", "velocity"] = "own"
    """Of the loss: the prediction's own, or what makes it the flow matching loss of the same model."""
    weight_limit: Positive | None = None
    """Largest weight; without one the weight of the data is infinite at t = 1, of the noise at t = 0."""
    batch_size: Count = 128
    """Examples in a step."""
    accumulate: Count = 1
    """Parts of a batch that are computed one after the other, for batches that do not fit the memory."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon learns more in a step where most parameters are matrices, as in transformers."""
    learning_rate: Positive = 1e-3
    """Peak, after the warm-up; Muon's matrices have ten times it."""
    warmup: Annotated[int, Ge(0)] = 200
    """Steps of linear warm-up."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled from the gradient."""
    clip: Positive = 1.0
    """Largest global norm of a gradient."""
    ema: Share = 0.999
    """Decay of the moving average of the parameters, with which one samples."""
    condition_dropout: Share = 0.1
    """Probability eta that an example's condition is replaced by null."""
    time_law: Literal["uniform", "logit_normal"] = "uniform"
    """Law of t in training."""
    time_mean: float = 0.0
    """Mean of logit t under the logit-normal law; below 0 for more noise."""
    time_deviation: Positive = 1.0
    """Standard deviation of logit t."""
    image_size: Annotated[int, Interval(ge=1, le=2**16)] | None = None
    """Side to which the pictures of a folder are brought; other data sets have theirs."""
    text_encoder: str | None = None
    """Folder of a pretrained CLIP or T5 encoder for the captions; a small one is trained if left out."""
    seed: Annotated[int, Interval(ge=0, lt=SEEDS)] = 0
    """Of the parameters, the order of the examples, times and noise."""
    checkpoint_every: Annotated[int, Interval(ge=2, le=2**31 - 1)] = 500
    """Steps that a kill loses at most; a checkpoint is begun every half of them."""
    log_every: Count = 50
    """Steps between lines of metrics.jsonl."""
    sample_every: Annotated[int, Ge(0)] = 500
    """Steps between pictures of samples; 0 for none."""


def apply_of(network: Network) -> Any:
    """The network as `fields.from_network` takes it: a Flax module itself, of another one `apply`."""
    return network if isinstance(network, linen.Module) else network.apply


def check(experiment: Experiment) -> None:
    """Raise a ValueError that names the first field out of its range, or that could not be read again."""
    classes = tuple(kind for kind in schema.classes_in(experiment) if kind not in schema.CLASSES)
    try:
        hash(experiment)
    except TypeError as error:
        raise ValueError(f"network, path: they have to be frozen dataclasses: {error}") from None
    text = json.dumps(schema.encode(experiment, classes))
    if schema.decode(json.loads(text), Experiment, classes) != experiment:
        raise ValueError("the experiment is not what config.json would give back")
    unbounded = experiment.weight == "velocity" and experiment.prediction in ("noise", "data", "score")
    if unbounded and experiment.weight_limit is None:
        raise ValueError(
            f"weight_limit is missing: the velocity's weight of predicted {experiment.prediction} is"
            " infinite at an end of t; 10 is a good one"
        )
    if experiment.text_encoder is not None and not Path(experiment.text_encoder).expanduser().is_dir():
        raise FileNotFoundError(
            f"text_encoder = {experiment.text_encoder}: there is no such folder; that of a CLIP or T5 is"
            " needed"
        )


def fitted(experiment: Experiment, codec: Codec) -> Experiment:
    """The experiment with the encoder that its data need, where the preset leaves it open."""
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
    return dataclasses.replace(experiment, network=network)


RESUMABLE = ("steps", "learning_rate", "accumulate", "checkpoint_every", "log_every", "sample_every")
"""What may differ between a run and its continuation."""


def differences(old: Experiment, new: Experiment) -> list[str]:
    """Fields in which two experiments differ and that a continued run must keep, as text."""
    return [
        f"{field.name} was {getattr(old, field.name)} and is {getattr(new, field.name)}"
        for field in dataclasses.fields(Experiment)
        if field.name not in RESUMABLE and getattr(old, field.name) != getattr(new, field.name)
    ]
