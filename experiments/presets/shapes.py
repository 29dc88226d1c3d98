"""Text to image: coloured shapes from their captions; 33 to 66 minutes on one core, see docs/results.md."""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """U-Net at 16 x 16 and 8 x 8 with cross-attention to the caption; null is the empty caption.

    The content of an image is decided at high noise levels: colours and places before t = 0.1, shapes from
    0.1 to 0.4, where three of four times are drawn. There the network predicts the data, which spares it
    passing the noise through.
    """
    return Experiment(
        dataset="shapes",
        network=nn.UNet(
            encode=None,
            patch=2,
            channels=(64, 128),
            attention=(False, True),
            cross_attention=(False, True),
            blocks=1,
            heads=2,
            width=128,
            positions="sinusoidal",
        ),
        path=paths.Linear(),
        prediction="data",
        weight="velocity",
        # The weight at t = 0.68. Without a limit, a few examples near the data would dominate the gradient of
        # a batch and drown the early times; Hang et al. 2303.09556 bound the weight likewise.
        weight_limit=10.0,
        # Circle, square, triangle and cross differ in their edges, which coarse errors would drown.
        edge_weight=4.0,
        time_distribution="logit_normal",
        time_mean=-1.1,
        time_deviation=0.85,
        steps=3600,
        batch_size=32,
        optimizer="muon",
        learning_rate=7e-4,
        warmup=100,
        ema=0.998,
    )
