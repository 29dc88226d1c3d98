"""The autoencoder that a run in latents carries along, as a file."""

import dataclasses
from typing import Any

from jaxflow.places import Place
from jaxflow.runs import exported
from jaxflow.spaces import Autoencoder

FILE = "autoencoder.safetensors"
"""In the folder of a run whose flow is in latents."""


def store(folder: Place, autoencoder: Autoencoder) -> None:
    """Write it into a run folder."""
    exported.write(folder / FILE, autoencoder.params, {})  # config.json describes it


def with_params(autoencoder: Autoencoder, file: Place, params: Any) -> Autoencoder:
    """The autoencoder with the parameters that were read from a file.

    Raises:
        ValueError: they are those of another network.
    """
    exported.check(file, params, autoencoder.shapes)
    return dataclasses.replace(autoencoder, params=params)
