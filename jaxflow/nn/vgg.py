"""VGG16 without its classifier, whose features perceptual distances compare.

Source: Simonyan and Zisserman 1409.1556, configuration D.
"""

import flax.linen as linen
from jaxtyping import Array, Float

from jaxflow.nn.convolution import Convolution, Image

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Of each convolution, for five resolutions."""


class VGG16(linen.Module):
    """Images (b, h, w, 3) -> the last features of each resolution, after their rectifier.

    A convolution is named by its position in the published sequence of layers, as in torchvision.
    """

    @linen.compact
    def __call__(self, x: Image) -> list[Float[Array, "b _ _ _"]]:
        features, layer = [], 0
        for i, widths in enumerate(CHANNELS):
            if i:
                x = linen.max_pool(x, (2, 2), (2, 2))
                layer += 1
            for width in widths:
                x = linen.relu(Convolution(width, name=f"layer_{layer}")(x))
                layer += 2  # with its rectifier
            features.append(x)
        return features
