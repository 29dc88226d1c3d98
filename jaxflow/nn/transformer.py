"""Self-attention of pretrained encoders: any mask, a bias on the logits, any scale."""

import flax.linen as linen
from jaxtyping import Array, Bool, Float

from jaxflow.nn.attention import attend


class BiasedAttention(linen.Module):
    """Multi-head self-attention (b, n, c) -> (b, n, c), softmax(scale q k^T + bias) v.

    Attributes:
        heads: number of heads.
        channels: total channels of all heads; a multiple of `heads`.
        scale: factor of the logits.
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
        mask: Bool[Array, "#b #n n"] | None = None,
        bias: Float[Array, "heads n n"] | None = None,
    ) -> Float[Array, "b n c"]:
        query, key, value = (
            linen.Dense(self.channels, use_bias=self.use_bias, dtype=self.dtype, name=name)(x).reshape(
                *x.shape[:2], self.heads, self.channels // self.heads
            )
            for name in ("query", "key", "value")
        )
        mixed = attend(query, key, value, mask, bias=bias, scale=self.scale)
        out = linen.Dense(x.shape[-1], use_bias=self.use_bias, dtype=self.dtype, name="out")
        return out(mixed.reshape(*x.shape[:2], self.channels))
