"""The autoencoders of Stable Diffusion 1 to 3 and of FLUX.1 and 2, by the names of their published files.

Of each tensor there are three names:

    encoder.down_blocks.0.resnets.1.conv_shortcut    of diffusers; its older files name attention otherwise
    encoder.down.0.block.1.nin_shortcut              of the original code, as in FLUX.1's ae.safetensors

All sizes follow from the tensors, but for the groups of the norms.
"""

import re
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from jaxflow.nn.autoencoder_kl import AutoencoderKL
from jaxflow.pretrained.tensors import Rewrites, convolution_of, read_params, rewritten, vector_of
from jaxflow.ranges import quoted
from jaxflow.spaces import Autoencoder

DIFFUSERS: Rewrites = {
    r"encoder\.block_(\d+)_(\d+)": r"encoder.down_blocks.\1.resnets.\2",
    r"decoder\.block_(\d+)_(\d+)": r"decoder.up_blocks.\1.resnets.\2",
    r"\bdown_(\d+)": r"down_blocks.\1.downsamplers.0",
    r"\bup_(\d+)": r"up_blocks.\1.upsamplers.0",
    r"middle\.block_": "mid_block.resnets.",
    r"middle\.attention\.": "mid_block.attentions.0.",
    r"attentions\.0\.norm": "attentions.0.group_norm",
    r"\battention\.(query|key|value)": lambda found: f"to_{found[1][0]}",
    r"\battention\.out": "to_out.0",
    r"\bshortcut": "conv_shortcut",
    r"\bnorm_out": "conv_norm_out",
    r"(kernel|scale)$": "weight",
}
OLDER: Rewrites = {
    r"\battention\.out": "proj_attn",
    r"\battention\.(query|key|value)": r"\1",
} | {pattern: new for pattern, new in DIFFUSERS.items() if not pattern.startswith(r"\battention")}


IMAGES = "encoder.conv_in.weight"
MEAN, VARIANCE = "bn.running_mean", "bn.running_var"
"""Of FLUX.2's latents, whose squares of 2 x 2 are channels."""


def original(resolutions: int) -> Rewrites:
    """Of the original code, whose decoder counts resolutions from the highest."""
    highest = resolutions - 1
    return {
        r"encoder\.block_(\d+)_(\d+)": r"encoder.down.\1.block.\2",
        r"decoder\.block_(\d+)_(\d+)": lambda found: f"decoder.up.{highest - int(found[1])}.block.{found[2]}",
        r"\bdown_(\d+)": r"down.\1.downsample",
        r"\bup_(\d+)": lambda found: f"up.{highest - int(found[1])}.upsample",
        r"middle\.block_(\d)": lambda found: f"mid.block_{int(found[1]) + 1}",
        r"middle\.attention\.": "mid.attn_1.",
        r"\battention\.(query|key|value)": lambda found: found[1][0],
        r"\battention\.out": "proj_out",
        r"\bshortcut": "nin_shortcut",
        r"(kernel|scale)$": "weight",
    }


def read(tensors: Mapping[str, Path], groups: int) -> Autoencoder:
    """The autoencoder whose tensors are in these files.

    Args:
        tensors: from `find_tensors`.
        groups: of the norms.

    Raises:
        ValueError: a tensor is missing, unused or of the wrong shape; the message names it.
    """
    of_diffusers = "encoder.down.0.block.0.conv1.weight" not in tensors
    block = "encoder.down_blocks.{}.resnets.{}" if of_diffusers else "encoder.down.{}.block.{}"
    first = lambda i, j=0: f"{block.format(i, j)}.conv1.weight"  # noqa: E731
    channels = tuple(
        convolution_of(tensors, first(i))[0] for i in takewhile(lambda i: first(i) in tensors, count())
    )
    fold = 2 if MEAN in tensors else 1
    attention = [name for name in tensors if re.match(r"encoder\.mid.*att", name)]
    network = AutoencoderKL(
        image_channels=convolution_of(tensors, "encoder.conv_in.weight")[1],
        latent_channels=convolution_of(tensors, "decoder.conv_in.weight")[1] * fold**2,
        channels=channels,
        blocks=len([*takewhile(lambda j: first(0, j) in tensors, count())]),
        groups=groups,
        attention=bool(attention),
        quant="quant_conv.weight" in tensors,
        fold=fold,
    )
    rewrites = DIFFUSERS if of_diffusers else original(len(channels))
    if any(".query." in name for name in attention):
        rewrites = OLDER

    name = lambda path: rewritten(".".join(path), rewrites)  # noqa: E731
    of_network = {key: file for key, file in tensors.items() if not key.startswith("bn.")}
    return Autoencoder(network, read_params(of_network, Autoencoder(network).shapes, name, ""))


def normalisation(
    tensors: Mapping[str, Path], file: Path, config: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of FLUX.2's latents, from its batch norm.

    Raises:
        ValueError: the numbers are not finite, or those of other channels.
    """
    epsilon = config.get("batch_norm_eps", 1e-4)
    mean, variance = (vector_of(tensors, key) for key in (MEAN, VARIANCE))
    if not isinstance(epsilon, float) or not np.all(np.isfinite(mean)) or not np.all(variance + epsilon > 0):
        raise ValueError(
            f"{file}: batch_norm_eps = {quoted(epsilon)}: with it, {MEAN} or {VARIANCE} are no moments"
        )
    return tuple(mean.tolist()), tuple(np.sqrt(variance + epsilon).tolist())
