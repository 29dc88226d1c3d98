"""An autoencoder of any data set, in whose latents a flow may then be trained.

python -m experiments.train autoencoder --dataset mnist --out DIR
python -m experiments.train PRESET --autoencoder DIR --out OTHER_DIR
"""

from jaxflow import nn
from jaxflow.runs.configuration import Autoencoding


def experiment() -> Autoencoding:
    """Variational, with 4 pixels to a latent along each side; convolutions begin at half the resolution."""
    return Autoencoding(
        dataset="digits",
        network=nn.AutoencoderKL(channels=(32, 64), blocks=1, groups=8, patch=2, quant=False),
        steps=2000,
        batch_size=64,
        learning_rate=1e-3,
        warmup=100,
        ema=0.998,
    )
