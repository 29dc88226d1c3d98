"""A dense layer of tokens as one matrix product.

Of a product with two leading axes, next to a nonlinearity, XLA's CPU backend can make one whose gradient
is three times slower. With the axes of examples and tokens as one it is fast on every device.
"""

import flax.linen as linen
from jaxtyping import Array, Float

from jaxflow.nn.attributes import Dtype


class Dense(linen.Module):
    """`linen.Dense` in value and parameters, (..., c) -> (..., features).

    Attributes:
        features: channels of the result.
        kernel_init: initialiser of the kernel.
        dtype: compute type, float32 or bfloat16.
    """

    features: int
    kernel_init: linen.initializers.Initializer = linen.initializers.lecun_normal()
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        flat, kernel, bias = (a.astype(self.dtype) for a in (x.reshape(-1, x.shape[-1]), kernel, bias))
        return (flat @ kernel + bias[None]).reshape(*x.shape[:-1], self.features)
