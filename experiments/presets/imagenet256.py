"""ImageNet at 256 x 256 in the latents of Stable Diffusion's autoencoder, for a pod.

python -m experiments.train imagenet256 --autoencoder FOLDER --data-dir IMAGENET --out gs://BUCKET/RUN
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """DiT-XL/2 on the linear path, which is SiT-XL/2; the published numbers, but for a decaying rate."""
    network = nn.published("XL", 2, None, learned_variance=False, scan=True, remat=True, dtype="bfloat16")
    return Experiment(
        dataset="folder",
        network=network,
        path=paths.Linear(),
        autoencoder="",
        image_size=256,
        hold_out=0.0,
        steps=400_000,
        batch_size=256,
        learning_rate=1e-4,
        warmup=2000,
        weight_decay=0.0,
        ema=0.9999,
        checkpoint_every=5000,
        sample_every=10_000,
    )
