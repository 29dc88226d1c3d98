"""A pipeline of diffusers as a model like any other: every rule, solver and sweep works on it.

DiTPipeline    DiT: classes of ImageNet, in the latents of Stable Diffusion
"""

from collections import Counter
from pathlib import Path
from typing import Any

from jaxflow.data.codecs import Classes
from jaxflow.pretrained import autoencoders, dit, schedulers
from jaxflow.pretrained.folders import read_json
from jaxflow.pretrained.tensors import find_tensors
from jaxflow.ranges import quoted
from jaxflow.runs.model import Model
from jaxflow.spaces import Latents

INDEX = "model_index.json"
"""Of a folder that is a pipeline."""
KINDS = ("DiTPipeline",)
DEFAULT_SIDE = 32
"""Of the latents of 256 x 256 pixels."""


def load(folder: Path) -> Model:
    """The model of a pipeline, on one device.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is another pipeline, or a file is damaged; the message names it.
    """
    index = read_json(folder / INDEX)
    if index.get("_class_name") not in KINDS:
        raise ValueError(
            f"{folder} is a pipeline {quoted(index.get('_class_name'))}: must be one of {', '.join(KINDS)}"
        )
    config = read_json(folder / "transformer" / "config.json")
    network, params, classes = dit.read(
        find_tensors(folder / "transformer"), config.get("num_attention_heads")
    )
    schedule = schedulers.read(folder / "scheduler")
    return Model(
        network=at_steps(network, schedule.steps),
        params=params,
        path=schedule.path,
        prediction=schedule.prediction,
        codec=Classes(names_of(index, classes)),
        space=space_of(folder, config.get("sample_size", DEFAULT_SIDE)),
    )


def at_steps(network: Any, steps: int) -> Any:
    """The network as a function of our t, which is 1 - (k + 1) / steps at its timestep k."""

    def apply(params: Any, x: Any, t: Any, y: Any) -> Any:
        return network.apply({"params": params}, x, (steps * (1 - t) - 1) / 1000, y)

    return apply


def space_of(folder: Path, side: int) -> Latents:
    """The latents of the pipeline's autoencoder, as published with it.

    Raises:
        ValueError: its configuration has no scale.
    """
    autoencoder = autoencoders.load(folder)
    if autoencoder.published is None:
        raise ValueError(f"{folder / 'vae' / 'config.json'} has no scaling_factor: it must have one")
    if type(side) is not int or side < 1:
        raise ValueError(
            f"{folder / 'transformer' / 'config.json'}: sample_size = {quoted(side)}: expected a number"
        )
    pixels, network = side * autoencoder.network.factor, autoencoder.network
    mean, deviation = ((number,) * network.latent_channels for number in autoencoder.published)
    shape = (pixels, pixels, network.image_channels)
    return Latents(shape, autoencoder, mean, deviation, autoencoder.digest)


def names_of(index: dict[str, Any], classes: int) -> tuple[str, ...]:
    """The first of each class's names, with its number where several classes have it; or the numbers.

    >>> names_of({"id2label": {"0": "tench, Tinca tinca", "1": "crane", "2": "crane"}}, 3)
    ('tench', 'crane 1', 'crane 2')
    """
    labels = index.get("id2label")
    if not isinstance(labels, dict):
        return tuple(map(str, range(classes)))
    names = [str(labels.get(str(i), i)).partition(",")[0].strip() for i in range(classes)]
    number = Counter(names)
    return tuple(f"{name} {i}" if number[name] > 1 else name for i, name in enumerate(names))
