"""Text to clip: coloured shapes that move, from their captions; see docs/results.md.

python -m experiments.train moving_shapes --out DIR
"""

import dataclasses

from experiments.presets import shapes
from jaxflow import nn
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """U-Net whose stem folds four frames into channels, which carry their patches undistorted.

    At the lower resolution a clip is one image of 8 x 8: there it is decided what moves, and how. The four
    groups of frames are drawn apart, by the same blocks.
    """
    return dataclasses.replace(
        shapes.experiment(),
        dataset="moving_shapes",
        network=nn.UNet(
            encode=None,
            patch=2,
            tube=4,
            folds=(4,),
            channels=(48, 128),
            attention=(False, True),
            cross_attention=(False, True),
            blocks=1,
            heads=4,
            width=128,
            positions="sinusoidal",
            down="patches",
            up="transposed",
        ),
        time_mean=-0.8,
        time_deviation=1.3,
        steps=2000,
    )
