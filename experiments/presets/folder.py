"""A folder of your own images: a subfolder for each class, or a caption file for each image.

python -m experiments.train folder --data-dir IMAGES --out DIR [--image-size 64]
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """Diffusion transformer over patches of 4 x 4, conditioned on classes or captions."""
    return Experiment(
        dataset="folder",
        network=nn.DiT(encode=None, patch=4, width=384, depth=8, heads=6, qk_norm=True),
        path=paths.Linear(),
        time_distribution="logit_normal",
        image_size=64,
        steps=20_000,
        batch_size=32,
        learning_rate=3e-4,
        warmup=500,
        ema=0.999,
    )
