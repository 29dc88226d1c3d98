"""MNIST, 28 x 28: 20 to 35 minutes of training on one core, see docs/results.md."""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """U-Net at 14 x 14 and 7 x 7 behind a space-to-depth stem, which predicts the data.

    The class of an image is decided at high noise levels: half of the times are below 0.33. One in
    eight is above 0.66, where strokes are drawn.
    """
    return Experiment(
        dataset="mnist",
        network=nn.UNet(encode=None, patch=2, channels=(32, 128), attention=(False, True), blocks=1),
        path=paths.Linear(),
        prediction="data",
        weight="velocity",
        weight_limit=10.0,
        time_distribution="logit_normal",
        time_mean=-0.7,
        time_deviation=1.2,
        steps=3500,
        batch_size=32,
        optimizer="muon",
        learning_rate=7e-4,
        warmup=100,
        ema=0.998,
    )
