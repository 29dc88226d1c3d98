"""An experiment as one frozen value, and its form as JSON."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as linen
import tyro

from jaxflow.runs import ranges
from jaxflow.runs.frozen_text import FrozenText
from jaxflow import nn, paths
from jaxflow.data.conditions import Captions, Classes, Condition
from jaxflow.typing import GaussianPath


@dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on, but for its data."""

    dataset: str
    """TFDS name of the data set, or `folder`."""
    network: tyro.conf.Suppress[linen.Module]
    """Its encoder is None where it depends on the data; `fitted` fills it in."""
    path: tyro.conf.Suppress[GaussianPath]
    steps: int
    """Training steps."""
    prediction: Literal["velocity", "data"] = "velocity"
    """What the network answers; the loss is that of the velocity for both."""
    batch_size: int = 128
    """Examples in a step."""
    accumulate: int = 1
    """Parts of a batch that are computed one after the other, for batches that do not fit the memory."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon learns more in a step where most parameters are matrices, as in transformers."""
    learning_rate: float = 1e-3
    """Peak, after the warm-up; Muon's matrices have ten times it."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled from the gradient."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    ema: float = 0.999
    """Decay of the moving average of the parameters, with which one samples."""
    condition_dropout: float = 0.1
    """Probability eta that an example's condition is replaced by null."""
    time_law: Literal["uniform", "logit_normal"] = "uniform"
    """Law of t in training."""
    time_mean: float = 0.0
    """Mean of logit t under the logit-normal law; below 0 for more noise."""
    time_deviation: float = 1.0
    """Standard deviation of logit t."""
    image_size: int | None = None
    """Side to which the pictures of a folder are brought; other data sets have theirs."""
    text_encoder: str | None = None
    """Folder of a pretrained CLIP or T5 encoder for the captions; a small one is trained if left out."""
    seed: int = 0
    """Of the parameters, the order of the examples, times and noise."""
    checkpoint_every: int = 500
    """Steps that a kill loses at most; a checkpoint is begun every half of them."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    sample_every: int = 500
    """Steps between pictures of samples; 0 for none."""

    def check(self) -> None:
        """Raise an error that names the first option out of its range."""
        ranges.at_least(1, self, "steps", "batch_size", "accumulate", "log_every")
        ranges.at_least(2, self, "checkpoint_every")
        ranges.not_negative(self, "warmup", "weight_decay", "sample_every")
        ranges.positive(self, "learning_rate", "clip", "time_deviation")
        ranges.finite(self, "time_mean")
        ranges.shares(self, "condition_dropout", "ema")
        ranges.seed(self.seed)
        if self.text_encoder is not None and not Path(self.text_encoder).expanduser().is_dir():
            raise FileNotFoundError(
                f"text_encoder = {self.text_encoder}: there is no such folder; that of a CLIP or T5 is needed"
            )


def fitted(experiment: Experiment, condition: Condition) -> Experiment:
    """The experiment with the encoder that its data need, where the preset leaves it open."""
    network: Any = experiment.network
    if network.encode is not None:
        return experiment
    encode: linen.Module
    if isinstance(condition, Classes):
        encode = nn.ClassTable(len(condition.names))
    elif isinstance(condition, Captions):
        encode = nn.TextEncoder(condition.vocabulary)
    else:
        encode = nn.TokenSequence()
    network = network.clone(encode=encode)
    if isinstance(network, nn.DiT) and not isinstance(condition, Classes) and network.text == "none":
        network = network.clone(text="cross")
    return dataclasses.replace(experiment, network=network)


RESUMABLE = ("steps", "learning_rate", "accumulate", "checkpoint_every", "log_every", "sample_every")
"""What may differ between a run and its continuation."""

CLASSES = {
    cls.__name__: cls
    for cls in (
        *(Experiment, Classes, Captions, FrozenText, nn.DiT, nn.UNet, nn.LabUNet),
        *(nn.ClassTable, nn.VectorMLP, nn.TextEncoder, nn.TokenSequence, nn.Several),
        *(paths.Cosine, paths.Linear, paths.SquareRoot, paths.VariancePreserving),
    )
}
"""What a configuration may hold; nothing else is ever built from a file."""


def encode(value: Any) -> Any:
    """A dataclass or Flax module as a dictionary that names its class; tuples as lists.

    Raises:
        ValueError: something in it could not be built again by `decode`.
    """
    kind = type(value)
    if CLASSES.get(kind.__name__) is kind:
        hidden = ("parent", "name") if isinstance(value, linen.Module) else ()
        names = [field.name for field in dataclasses.fields(value) if field.name not in hidden]
        return {"class": kind.__name__} | {name: encode(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"{kind.__name__} cannot be written to config.json, which holds numbers, texts, tuples and what"
        " CLASSES in jaxflow/runs/configuration.py lists"
    )


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, dict):
        fields = {name: decode(item) for name, item in value.items() if name != "class"}
        return CLASSES[value["class"]](**fields)
    return tuple(decode(item) for item in value) if isinstance(value, list) else value


def differences(old: Experiment, new: Experiment) -> list[str]:
    """Fields in which two experiments differ and that a continued run must keep, as text."""
    return [
        f"{field.name} was {getattr(old, field.name)} and is {getattr(new, field.name)}"
        for field in dataclasses.fields(Experiment)
        if field.name not in RESUMABLE and getattr(old, field.name) != getattr(new, field.name)
    ]
