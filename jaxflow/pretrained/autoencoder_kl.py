"""The autoencoders of Stable Diffusion 1 to 3 and of FLUX.1, by the names of their published files.

Of each tensor there are three names:

    encoder.down_blocks.0.resnets.1.conv_shortcut    of diffusers; its older files name attention otherwise
    encoder.down.0.block.1.nin_shortcut              of the original code, as in FLUX.1's ae.safetensors

All sizes follow from the tensors, but for the groups of the norms.
"""

import re
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path

from jaxflow.nn.autoencoder_kl import AutoencoderKL
from jaxflow.pretrained.tensors import Rewrites, convolution_of, read_params, rewritten
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
    attention = [name for name in tensors if re.match(r"encoder\.mid.*att", name)]
    network = AutoencoderKL(
        image_channels=convolution_of(tensors, "encoder.conv_in.weight")[1],
        latent_channels=convolution_of(tensors, "decoder.conv_in.weight")[1],
        channels=channels,
        blocks=len([*takewhile(lambda j: first(0, j) in tensors, count())]),
        groups=groups,
        attention=bool(attention),
        quant="quant_conv.weight" in tensors,
    )
    rewrites = DIFFUSERS if of_diffusers else original(len(channels))
    if any(".query." in name for name in attention):
        rewrites = OLDER

    name = lambda path: rewritten(".".join(path), rewrites)  # noqa: E731
    return Autoencoder(network, read_params(tensors, Autoencoder(network).shapes, name, ""))
