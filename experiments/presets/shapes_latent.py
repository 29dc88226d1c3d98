"""Text to image in latents: `shapes` as the second of two stages, see docs/results.md.

python -m experiments.train autoencoder --dataset shapes --steps 600 --out AUTOENCODER
python -m experiments.train shapes_latent --autoencoder AUTOENCODER --out DIR
"""

import dataclasses

from experiments.presets import shapes
from jaxflow import nn
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over 8 x 8 latents in patches of 2 x 2, which attend to the words."""
    return dataclasses.replace(
        shapes.experiment(),
        network=nn.DiT(encode=None, patch=2, width=192, depth=6, heads=3, qk_norm=True),
        autoencoder="",
        edge_weight=0.0,  # made for pixels, and not tried in latents
        steps=1300,
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-3,
    )
