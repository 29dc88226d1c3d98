"""Text to image as in `shapes`, with a diffusion transformer to compare with its U-Net."""

import dataclasses

from experiments.presets import shapes
from jaxflow import nn
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """As `shapes` but for the network: 64 patches of 4 x 4 pixels attend to each other and to the words."""
    network = nn.DiT(
        encode=None, patch=4, width=128, depth=6, heads=2, mlp_ratio=2, cross_attention=True, depthwise=True
    )
    return dataclasses.replace(shapes.experiment(), network=network)
