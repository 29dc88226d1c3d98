"""The autoencoder that a run in latents carries along, as a file."""

import dataclasses

from jaxflow.places import Place
from jaxflow.runs import exported
from jaxflow.spaces import Autoencoder, Latents
from jaxflow.training.step import Params

FILE = "autoencoder.safetensors"
"""In the folder of a run whose flow is in latents."""


def store(folder: Place, autoencoder: Autoencoder) -> None:
    """Write it into a run folder."""
    exported.write(folder / FILE, autoencoder.params, {})  # config.json describes it


def with_params(space: Latents, file: Place, params: Params) -> Latents:
    """The space with the parameters of its autoencoder, which were read from a file.

    Raises:
        ValueError: they are those of another autoencoder.
    """
    exported.check(file, params, space.autoencoder.shapes)
    autoencoder = dataclasses.replace(space.autoencoder, params=params)
    if autoencoder.digest != space.digest:
        raise ValueError(
            f"{file} is of another autoencoder than the run was trained with: copy its own there"
        )
    return dataclasses.replace(space, autoencoder=autoencoder)
