"""MNIST, 28 x 28: half an hour of training on two slow cores, see docs/results.md."""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """U-Net at 14 x 14 and 7 x 7 behind a space-to-depth stem, linear path, times around the middle."""
    return Experiment(
        dataset="mnist",
        network=nn.UNet(encode=None, patch=2, channels=(32, 128), attention=(False, True), blocks=1),
        path=paths.Linear(),
        time_distribution="logit_normal",
        steps=3000,
        batch_size=64,
        learning_rate=2e-3,
        warmup=200,
    )
