"""Text to image: scenes of coloured shapes from their captions; 20 minutes of training on two cores."""

from experiments.experiment import Experiment
from jaxflow import nn, paths


def experiment() -> Experiment:
    """Diffusion transformer over 64 patches that attends to the caption's words; null is the empty one."""
    return Experiment(
        dataset="shapes",
        network=nn.DiT(encode=None, patch=4, width=128, depth=6, heads=4, text="cross"),
        path=paths.Linear(),
        time_law="logit_normal",
        steps=3500,
        batch_size=64,
        learning_rate=2e-3,
        warmup=200,
        ema=0.998,
    )
