"""MNIST in latents: the second of two stages, see docs/results.md.

python -m experiments.train autoencoder --dataset mnist --out AUTOENCODER
python -m experiments.train mnist_latent --autoencoder AUTOENCODER --out DIR
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over 7 x 7 latents, linear path, times around the middle."""
    return Experiment(
        dataset="mnist",
        network=nn.DiT(encode=None, patch=1, width=192, depth=5, heads=3, qk_norm=True),
        path=paths.Linear(),
        autoencoder="",
        time_distribution="logit_normal",
        steps=3000,
        batch_size=64,
        learning_rate=1e-3,
        warmup=200,
        ema=0.998,
    )
