"""Text to pictures of 128 x 128: as `emoji`, for hours on two cores or minutes on an accelerator.

python -m experiments.train emoji_128 --autoencoder FOLDER --out DIR
"""

import dataclasses

from experiments.presets import emoji
from jaxflow import nn
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """As `emoji`, with a wider and deeper transformer over four times as many latents, 16 x 16."""
    network = nn.DiT(encode=None, patch=2, width=384, depth=6, heads=6, qk_norm=True)
    return dataclasses.replace(emoji.experiment(), image_size=128, network=network, steps=20_000, ema=0.999)
