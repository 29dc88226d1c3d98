"""A discriminator of patches: is what a small part of an image shows real or decoded?

Source: Isola et al. 1611.07004 (PatchGAN), with group norm, so that no image depends on others of its batch.
"""

import flax.linen as linen
from jaxtyping import Array, Float

from jaxflow.nn.attributes import Dtype, Widths, check
from jaxflow.nn.convolution import Convolution, Image
from jaxflow.nn.image_blocks import GroupNorm


class Discriminator(linen.Module):
    """Images (b, h, w, c) -> a logit of each patch (b, h', w'), positive for real ones.

    Attributes:
        channels: of each convolution, which halves the resolution.
        dtype: compute type.
    """

    channels: Widths = (64, 128, 256)
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Image) -> Float[Array, "b _ _"]:
        check(self)
        for i, width in enumerate(self.channels):
            x = Convolution(width, stride=2, dtype=self.dtype, name=f"down_{i}")(x)
            if i:
                x = GroupNorm(name=f"norm_{i}")(x)
            x = linen.leaky_relu(x, 0.2)
        return Convolution(1, name="conv_out")(x)[..., 0]
