"""T5's encoder: a pre-norm transformer with relative position biases instead of absolute positions.

The bias of query i and key j is a learned number per head and bucket of j - i. Half of the `buckets` are for
j > i; in each half, half hold one distance each, and the others are spaced logarithmically up to
`max_distance`. The logits are not scaled, and the normalisations are RMSNorm. Residual stream, normalisations
and softmax are float32.

Source: Raffel et al. 1910.10683, section 2.1; gated feed-forward layers of version 1.1: Shazeer 2002.05202.
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxflow.nn.attributes import Count, Depth, HeadCount, Width
from jaxflow.nn.in_turn import in_turn
from jaxflow.nn.transformer import BiasedAttention

FEED_FORWARDS = ("relu", "gated-gelu")


def relative_buckets(n: int, buckets: int, max_distance: int) -> Int[np.ndarray, "n n"]:
    """Bucket of j - i for each query i and key j of a sequence of n tokens."""
    offset = np.arange(n)[None, :] - np.arange(n)[:, None]
    half = buckets // 2
    exact = half // 2
    distance = np.abs(offset)
    octaves = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact)
    logarithmic = np.minimum(exact + (octaves * (half - exact)).astype(int), half - 1)
    return np.where(offset > 0, half, 0) + np.where(distance < exact, distance, logarithmic)


class FeedForward(linen.Module):
    """Two layers with a ReLU in between, or with gated GELU, (b, n, c) -> (b, n, c)."""

    hidden: int
    kind: str
    dtype: str

    @linen.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        def dense(width: int, name: str) -> linen.Dense:
            return linen.Dense(width, use_bias=False, dtype=self.dtype, name=name)

        up = dense(self.hidden, "up")(x)
        if self.kind == "relu":
            return dense(x.shape[-1], "down")(jax.nn.relu(up))
        gate = jax.nn.gelu(dense(self.hidden, "gate")(x), approximate=True)
        return dense(x.shape[-1], "down")(gate * up)


class T5Block(linen.Module):
    """Pre-norm attention and feed-forward layer, each in a residual branch, (b, n, c) -> (b, n, c)."""

    heads: int
    head_width: int
    hidden: int
    feed_forward: str
    epsilon: float
    dtype: str

    @linen.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b 1 n"], bias: Float[Array, "heads n n"]
    ) -> Float[Array, "b n c"]:
        channels = self.heads * self.head_width
        attention = BiasedAttention(
            self.heads, channels, 1.0, use_bias=False, dtype=self.dtype, name="attention"
        )
        x = x + attention(_norm(self.epsilon, "norm1")(x), mask, bias).astype(jnp.float32)
        feed_forward = FeedForward(self.hidden, self.feed_forward, self.dtype, name="feed_forward")
        return x + feed_forward(_norm(self.epsilon, "norm2")(x)).astype(jnp.float32)


def _norm(epsilon: float, name: str) -> linen.RMSNorm:
    return linen.RMSNorm(epsilon=epsilon, dtype=jnp.float32, name=name)


class T5Encoder(linen.Module):
    """Token ids and their mask, (b, n) each -> tokens (b, n, width), float32.

    The mask must keep at least one token per text. The attributes' defaults are those of T5-small.

    Attributes:
        vocabulary: number of token ids.
        width: channels per token.
        depth: number of blocks.
        heads: attention heads.
        head_width: channels per head.
        hidden: width of the hidden layer of each block's feed-forward layer.
        feed_forward: relu, or gated-gelu as in version 1.1.
        buckets: number of buckets of relative positions.
        max_distance: distance beyond which all share one bucket.
        epsilon: of the normalisations.
        dtype: compute type, float32 or bfloat16.
    """

    vocabulary: Count = 32128
    width: Width = 512
    depth: Depth = 6
    heads: HeadCount = 8
    head_width: Width = 64
    hidden: Width = 2048
    feed_forward: str = "relu"
    buckets: Width = 32
    max_distance: Count = 128
    epsilon: float = 1e-6
    dtype: str = "float32"

    @linen.compact
    def __call__(self, ids: Int[Array, "b n"], mask: Bool[Array, "b n"]) -> Float[Array, "b n c"]:
        if self.feed_forward not in FEED_FORWARDS:
            raise ValueError(f"feed_forward = {self.feed_forward!r}: must be {' or '.join(FEED_FORWARDS)}")
        init = linen.initializers.normal(1.0)
        x = linen.Embed(self.vocabulary, self.width, embedding_init=init, name="token_embedding")(ids)
        x = x.astype(jnp.float32)
        table = linen.Embed(self.buckets, self.heads, embedding_init=init, name="relative_bias")
        buckets = relative_buckets(ids.shape[1], self.buckets, self.max_distance)
        bias = table(jnp.asarray(buckets, jnp.int32)).transpose(2, 0, 1).astype(jnp.float32)
        for i in range(self.depth):
            block = T5Block(
                self.heads,
                self.head_width,
                self.hidden,
                self.feed_forward,
                self.epsilon,
                self.dtype,
                name=f"block_{i}",
            )
            x = in_turn(lambda block, x: block(x, mask[:, None], bias), block, x, self.dtype)
        return _norm(self.epsilon, "final_norm")(x)
