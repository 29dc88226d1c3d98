"""The world's autoencoders, from folders on disk with the names of their published files.

TAESD and its relatives: encoder and decoder in one file, `encoder.` and `decoder.` before the names, which
are the numbers of layers in the published sequences. Channels, and whether it is that of FLUX.2, follow from
the tensors. If there is a config.json, as of diffusers, it has the numbers by which the latents are scaled:

    event = (latent - shift_factor) scaling_factor
"""

import math
from pathlib import Path

from jaxflow.nn.autoencoder_tiny import AutoencoderTiny
from jaxflow.pretrained.folders import Folder, read_json
from jaxflow.pretrained.tensors import find_tensors, read_params, shape_of
from jaxflow.ranges import quoted
from jaxflow.spaces import Autoencoder

NAMES = {
    "layer_": "",
    "conv_": "conv.",
    "widen": "pool.0",
    "norm": "pool.1",
    "narrow": "pool.3",
    "kernel": "weight",
    "scale": "weight",
}
"""Names in the module -> names in the file."""
IMAGES, LATENTS, POOLED = "encoder.0.weight", "encoder.14.weight", "encoder.11.pool.0.weight"


def load(folder: Folder) -> Autoencoder:
    """Read an autoencoder.

    Raises:
        FileNotFoundError: the folder does not exist, or has no weights.
        ValueError: the weights are not those of a TAESD, or do not fit together; the message names the file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder {str(root)!r} does not exist: put the autoencoder there, nothing is downloaded"
        )
    tensors = find_tensors(root)
    network = AutoencoderTiny(
        image_channels=shape_of(tensors, IMAGES)[1],
        latent_channels=shape_of(tensors, LATENTS)[0],
        pooled=POOLED in tensors,
    )
    params = read_params(tensors, Autoencoder(network).shapes, NAMES, "")
    return Autoencoder(network, params, published=scaling(root))


def scaling(folder: Path) -> tuple[float, float] | None:
    """Mean and deviation of the latents, as published; None if they are not.

    Raises:
        ValueError: they are no numbers.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    if config.get("scaling_factor") is None:
        return None
    scale, shift = config["scaling_factor"], config.get("shift_factor") or 0
    if not all(isinstance(number, int | float) for number in (scale, shift)) or not 0 < scale < math.inf:
        raise ValueError(
            f"{file}: scaling_factor = {quoted(scale)}, shift_factor = {quoted(shift)}: expected"
            " a positive number and a number"
        )
    return float(shift), 1 / scale
