"""Handwritten digits, 8 x 8: two to four minutes of training on two cores."""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over 16 patches, linear path."""
    return Experiment(
        dataset="digits",
        network=nn.DiT(encode=None, patch=2, width=128, depth=6, heads=4),
        path=paths.Linear(),
        steps=1200,
        batch_size=64,
        learning_rate=2e-3,
        warmup=100,
        ema=0.998,
    )
