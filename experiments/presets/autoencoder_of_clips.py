"""An autoencoder of clips, in whose latents a flow may then be trained.

python -m experiments.train autoencoder_of_clips --out DIR
python -m experiments.train moving_shapes --frames 13 --autoencoder DIR --network.patch 1 --network.tube 7 \\
    --network.folds 1 --out OTHER_DIR
"""

from jaxflow import nn
from jaxflow.runs.configuration import Autoencoding


def experiment() -> Autoencoding:
    """Causal in time, with 4 x 4 pixels of 2 frames to a latent, the first frame alone."""
    return Autoencoding(
        dataset="moving_shapes",
        frames=13,
        network=nn.CausalAutoencoder(
            channels=(32, 64), blocks=1, groups=8, patch=2, quant=False, time_factor=2
        ),
        steps=2000,
        batch_size=8,
        learning_rate=1e-3,
        warmup=100,
        ema=0.998,
    )
