"""Text to pictures of 64 x 64: emoji from their names, in the latents of an autoencoder.

python -m experiments.train emoji --autoencoder FOLDER --out DIR
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over the 8 x 8 latents of TAEF2, with cross-attention to the name."""
    return Experiment(
        dataset="emoji",
        network=nn.DiT(encode=None, patch=2, width=256, depth=4, heads=4, qk_norm=True),
        path=paths.Linear(),
        autoencoder="",
        image_size=64,
        steps=1800,
        batch_size=128,
        learning_rate=1e-3,
        warmup=100,
        ema=0.995,
    )
