"""Text to clip: coloured shapes that move, from their captions; see docs/results.md.

python -m experiments.train moving_shapes --out DIR
"""

import dataclasses

from experiments.presets import shapes
from jaxflow import nn
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over patches of 8 frames x 4 x 4 pixels, in space and then in time."""
    return dataclasses.replace(
        shapes.experiment(),
        dataset="moving_shapes",
        network=nn.DiT(
            encode=None, patch=4, tube=8, width=192, depth=6, heads=3, mlp_ratio=2, depthwise=True
        ),
        steps=1200,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1e-3,
    )
