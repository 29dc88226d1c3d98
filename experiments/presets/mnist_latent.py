"""MNIST in latents: the second of two stages, see docs/results.md.

python -m experiments.train autoencoder --dataset mnist --steps 1000 --out AUTOENCODER
python -m experiments.train mnist_latent --autoencoder AUTOENCODER --out DIR
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over 7 x 7 latents, linear path, times around the middle."""
    return Experiment(
        dataset="mnist",
        network=nn.DiT(encode=None, patch=1, width=128, depth=6, heads=4, qk_norm=True),
        path=paths.Linear(),
        autoencoder="",
        time_distribution="logit_normal",
        steps=1050,
        batch_size=64,
        learning_rate=2e-3,
        warmup=100,
        ema=0.998,
    )
