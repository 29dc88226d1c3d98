"""Self-attention of tokens: every token attends to all tokens of its example."""

import flax.linen as linen
import jax
from jaxtyping import Array, Float


class SelfAttention(linen.Module):
    """Multi-head self-attention, (b, tokens, c) -> (b, tokens, c)."""

    heads: int
    kernel_init: linen.initializers.Initializer = linen.initializers.xavier_uniform()
    out_init: linen.initializers.Initializer = linen.initializers.xavier_uniform()

    @linen.compact
    def __call__(self, tokens: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        channels = tokens.shape[-1]
        if channels % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide the {channels} channels")
        shape = (3, self.heads, channels // self.heads)
        qkv = linen.Dense(3 * channels, kernel_init=self.kernel_init)(tokens)
        query, key, value = (qkv.reshape(*tokens.shape[:2], *shape)[:, :, i] for i in range(3))
        mixed = jax.nn.dot_product_attention(query, key, value)
        return linen.Dense(channels, kernel_init=self.out_init)(mixed.reshape(tokens.shape))
