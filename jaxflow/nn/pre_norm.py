"""The block that CLIP's two towers and DINOv2 share: pre-norm attention and MLP, each in a residual branch.

Residual stream, normalisations and softmax are float32. DINOv2 multiplies each branch by learned scales, one
per channel, before it is added.

Source: Radford et al. 2103.00020, section 2.4; Touvron et al. 2103.17239, section 2 (the scales).
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxflow.nn.transformer import BiasedAttention


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The approximation x sigmoid(1.702 x) of GELU, with which OpenAI's weights were trained."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU, x Phi(x), with the standard normal distribution function Phi."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}


class PreNormBlock(linen.Module):
    """Attention and MLP, (b, n, c) -> (b, n, c).

    Attributes:
        heads: attention heads.
        hidden: width of the hidden layer of the MLP.
        activation: quick_gelu or gelu.
        epsilon: of the normalisations.
        dtype: compute type, float32 or bfloat16.
        branch_scales: whether each branch has a scale per channel.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: str
    branch_scales: bool = False

    @linen.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "1 n n"] | None = None
    ) -> Float[Array, "b n c"]:
        c = x.shape[-1]
        attention = BiasedAttention(
            self.heads, c, (c // self.heads) ** -0.5, use_bias=True, dtype=self.dtype, name="attention"
        )
        x = x + self._scaled("branch_scale1", attention(norm(self.epsilon, "norm1")(x), mask))
        h = linen.Dense(self.hidden, dtype=self.dtype, name="up")(norm(self.epsilon, "norm2")(x))
        h = linen.Dense(c, dtype=self.dtype, name="down")(ACTIVATIONS[self.activation](h))
        return x + self._scaled("branch_scale2", h)

    def _scaled(self, name: str, branch: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        branch = branch.astype(jnp.float32)
        if not self.branch_scales:
            return branch
        return branch * self.param(name, linen.initializers.ones, branch.shape[-1:])[None, None]


def norm(epsilon: float, name: str) -> linen.LayerNorm:
    """A layer normalisation in float32."""
    # The fast variance, E x^2 - (E x)^2, cancels badly in outlier channels, of which CLIP has some.
    return linen.LayerNorm(epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)
