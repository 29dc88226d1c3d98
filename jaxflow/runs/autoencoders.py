"""Autoencoders on disk: published weights, and the one that a run carries along."""

import dataclasses
import os
from typing import Any

from jaxflow.places import Place, bucket_errors, place
from jaxflow.pretrained import autoencoders
from jaxflow.runs import exported, schema
from jaxflow.spaces import Autoencoder

FILE = "autoencoder.safetensors"
"""In the folder of a run whose flow is in latents."""


def load_autoencoder(where: str | os.PathLike) -> Autoencoder:
    """The autoencoder of a folder of published weights, or of a run.

    Args:
        where: a folder with the weights of a TAESD, or a run folder whose flow is in latents.

    Raises:
        FileNotFoundError: it does not exist, or has no weights.
        ValueError: the weights are damaged, or those of something else; the message names the file.
    """
    folder = place(where, "place")
    with bucket_errors(folder):
        of_run = (folder / FILE).exists()
    if not of_run:
        return autoencoders.load(folder)
    params, config = exported.read(folder / FILE)
    try:
        autoencoder = schema.decode(config, Autoencoder)
    except ValueError as error:
        raise ValueError(f"{folder / FILE} cannot be read: {error}") from None
    return with_params(autoencoder, folder / FILE, params)


def store(folder: Place, autoencoder: Autoencoder) -> None:
    """Write it into a run folder."""
    exported.write(folder / FILE, autoencoder.params, schema.encode(autoencoder))


def with_params(autoencoder: Autoencoder, file: Place, params: Any) -> Autoencoder:
    """The autoencoder with the parameters that were read from a file.

    Raises:
        ValueError: they are those of another network.
    """
    exported.check(file, params, autoencoder.shapes)
    return dataclasses.replace(autoencoder, params=params)
