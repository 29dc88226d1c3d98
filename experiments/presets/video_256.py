"""Text to clips of 65 frames of 256 x 256, in the latents of an autoencoder in time, for a pod.

python -m experiments.train video_256 --autoencoder RUN --text-encoder T5 --data-dir CLIPS \\
    --devices.parallel fsdp --out gs://BUCKET/RUN
"""

from jaxflow import nn, paths
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """DiT-XL/2 over 17 x 32 x 32 latents, 4,352 patches that all attend to each other."""
    network = nn.DiT(
        encode=None,
        patch=2,
        width=1152,
        depth=28,
        heads=16,
        cross_attention=True,
        positions="rotary",
        attention_in_time="full",
        qk_norm=True,
        scan=True,
        remat=True,
        dtype="bfloat16",
    )
    return Experiment(
        dataset="clips",
        network=network,
        path=paths.Linear(),
        time_distribution="logit_normal",
        text_encoder="",
        autoencoder="",
        frames=65,
        image_size=256,
        hold_out=0.0,
        still_weight=0.1,
        steps=200_000,
        batch_size=128,
        learning_rate=1e-4,
        warmup=2000,
        weight_decay=0.0,
        ema=0.9999,
        checkpoint_every=5000,
        sample_every=10_000,
    )
