"""Self-attention as pretrained text encoders have it: any mask, a bias on the logits, any scale.

Logits and softmax are float32 in every compute type.
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class BiasedAttention(linen.Module):
    """Multi-head self-attention (b, n, c) -> (b, n, c), softmax(scale q k^T + bias) v.

    Attributes:
        heads: number of heads.
        channels: of all heads together; a multiple of `heads`.
        scale: of the logits.
        use_bias: whether the four projections have biases.
        dtype: compute type, float32 or bfloat16.
    """

    heads: int
    channels: int
    scale: float
    use_bias: bool
    dtype: str = "float32"

    @linen.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        mask: Bool[Array, "#b #n n"],
        bias: Float[Array, "heads n n"] | None = None,
    ) -> Float[Array, "b n c"]:
        query, key, value = (
            linen.Dense(self.channels, use_bias=self.use_bias, dtype=self.dtype, name=name)(x).reshape(
                *x.shape[:2], self.heads, self.channels // self.heads
            )
            for name in ("query", "key", "value")
        )
        logits = self.scale * jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        if bias is not None:
            logits = logits + bias[None].astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(mask[:, None], logits, -jnp.inf), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        out = linen.Dense(x.shape[-1], use_bias=self.use_bias, dtype=self.dtype, name="out")
        return out(mixed.reshape(*x.shape[:2], self.channels))
