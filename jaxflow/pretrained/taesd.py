"""TAESD and its relatives: encoder and decoder in one file, named by the numbers of their published layers.

Channels, and whether it is that of FLUX.2, follow from the tensors.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jaxflow.nn.autoencoder_tiny import AutoencoderTiny
from jaxflow.pretrained.tensors import convolution_of, name_of, read_params
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


def read(tensors: Mapping[str, Path]) -> Autoencoder:
    """The autoencoder whose tensors are in these files; errors as of `read_params`."""
    network = AutoencoderTiny(
        image_channels=convolution_of(tensors, IMAGES)[1],
        latent_channels=convolution_of(tensors, LATENTS)[0],
        pooled=POOLED in tensors,
    )
    names = partial(name_of, names=NAMES)
    return Autoencoder(network, read_params(tensors, Autoencoder(network).shapes, names, ""))
