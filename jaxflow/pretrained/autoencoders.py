"""The world's autoencoders, from folders on disk with the names of their published files.

Which one it is follows from the names of the tensors. If there is a config.json, as of diffusers, it has the
numbers by which the latents are scaled:

    event = (latent - shift_factor) scaling_factor

FLUX.2 has the statistics of a batch norm instead, of each channel.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxflow.pretrained import autoencoder_kl, taesd
from jaxflow.pretrained.folders import Folder, count, part, read_json
from jaxflow.pretrained.tensors import find_tensors
from jaxflow.ranges import quoted
from jaxflow.spaces import Autoencoder

GROUPS = 32
"""Of the norms, in all published ones."""


def load(folder: Folder) -> Autoencoder:
    """Read the autoencoder of a folder, or of a pipeline of diffusers.

    Raises:
        FileNotFoundError: the folder does not exist, or has no weights.
        ValueError: the weights are those of no known autoencoder, or do not fit together; the message names
            the file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder {str(root)!r} does not exist: put the autoencoder there, nothing is downloaded"
        )
    root = part(root, "vae")
    tensors = find_tensors(root)
    config = read_json(root / "config.json") if (root / "config.json").is_file() else {}
    if taesd.IMAGES in tensors:
        found = taesd.read(tensors)
    elif autoencoder_kl.IMAGES in tensors:
        found = autoencoder_kl.read(tensors, count(root / "config.json", config, "norm_num_groups", GROUPS))
    else:
        raise ValueError(
            f"{root} has no autoencoder: expected AutoencoderKL or a TAESD, whose tensors are named"
            f" {autoencoder_kl.IMAGES} or {taesd.IMAGES}, and found {quoted(min(tensors, default=''))}"
        )
    if autoencoder_kl.MEAN in tensors:
        return replace(found, published=autoencoder_kl.normalisation(tensors, root / "config.json", config))
    scale, channels = scaling(root / "config.json", config), found.network.latent_channels
    if scale is None:
        return found
    mean, deviation = scale
    return replace(found, published=((mean,) * channels, (deviation,) * channels))


def is_autoencoder(folder: Path) -> bool:
    """Whether the weights in a folder are those of an autoencoder.

    Raises:
        FileNotFoundError: it has no weights.
        ValueError: they are a pickle, or damaged.
    """
    return not find_tensors(folder).keys().isdisjoint((taesd.IMAGES, autoencoder_kl.IMAGES))


def scaling(file: Path, config: dict[str, Any]) -> tuple[float, float] | None:
    """Mean and deviation of the latents, as published; None if they are not.

    Raises:
        ValueError: they are no numbers.
    """
    if config.get("scaling_factor") is None:
        return None
    scale, shift = config["scaling_factor"], config.get("shift_factor") or 0
    if not all(isinstance(number, int | float) for number in (scale, shift)) or not 0 < scale < math.inf:
        raise ValueError(
            f"{file}: scaling_factor = {quoted(scale)}, shift_factor = {quoted(shift)}: expected a positive"
            " number and a number"
        )
    return float(shift), 1 / scale
