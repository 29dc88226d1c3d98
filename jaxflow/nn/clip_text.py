"""CLIP's text encoder: a causal pre-norm transformer over byte pairs, pooled at the end-of-text token.

Under causal attention the end-of-text token attends to the whole text, and to none of the padding after it.

Source: Radford et al. 2103.00020, section 2.4.
"""

from typing import NamedTuple

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxflow.nn.attributes import Count, Depth, HeadCount, Width
from jaxflow.nn.in_turn import in_turn
from jaxflow.nn.pre_norm import ACTIVATIONS, PreNormBlock, norm


class TextFeatures(NamedTuple):
    """Features of b texts of n tokens; None where the encoder has no such output."""

    tokens: Float[Array, "b n c"]
    pooled: Float[Array, "b c"] | None = None
    """One vector per text."""
    projected: Float[Array, "b p"] | None = None
    """`pooled` in CLIP's joint space of texts and images."""


class CLIPText(linen.Module):
    """Token ids (b, n) -> `TextFeatures`; the attributes' defaults are those of CLIP ViT-L/14.

    Attributes:
        vocabulary: number of token ids.
        width: channels per token; a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        hidden: width of the hidden layer of each block's MLP.
        positions: longest text in tokens, including start and end.
        activation: quick_gelu or gelu.
        epsilon: of the normalisations.
        end_token: id of the end-of-text token; None for the largest id in the text, as older files require.
        projection: width of `projected`; None omits it.
        skip: number of last blocks skipped by `tokens`; `pooled` never skips any.
        final_norm: whether `tokens` pass the final normalisation. Stable Diffusion 1 and 2 use skip = 0 and
            True (skip = `clip_skip` of diffusers, if set); Stable Diffusion XL uses skip = 1 and False.
        dtype: compute type, float32 or bfloat16.
    """

    vocabulary: Count = 49408
    width: Width = 768
    depth: Depth = 12
    heads: HeadCount = 12
    hidden: Width = 3072
    positions: Count = 77
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    end_token: int | None = None
    projection: int | None = None
    skip: int = 0
    final_norm: bool = True
    dtype: str = "float32"

    @linen.compact
    def __call__(self, ids: Int[Array, "b n"]) -> TextFeatures:
        n = ids.shape[1]
        self._check(n)
        init = linen.initializers.normal(0.02)
        positions = self.param("position_embedding", init, (self.positions, self.width))
        x = linen.Embed(self.vocabulary, self.width, embedding_init=init, name="token_embedding")(ids)
        x = x.astype(jnp.float32) + positions[None, :n].astype(jnp.float32)
        mask = jnp.tril(jnp.ones((1, n, n), bool))
        tokens = x
        for i in range(self.depth):
            block = PreNormBlock(
                self.heads, self.hidden, self.activation, self.epsilon, self.dtype, name=f"block_{i}"
            )
            x = in_turn(lambda block, x: block(x, mask), block, x, self.dtype)
            tokens = x if i < self.depth - self.skip else tokens
        final_norm = norm(self.epsilon, "final_norm")
        pooled = jnp.take_along_axis(final_norm(x), self._end(ids)[:, None, None], axis=1)[:, 0]
        features = TextFeatures(final_norm(tokens) if self.final_norm else tokens, pooled)
        if self.projection is None:
            return features
        project = linen.Dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")
        return features._replace(projected=project(pooled).astype(jnp.float32))

    def _end(self, ids: Int[Array, "b n"]) -> Int[Array, " b"]:
        """Position of the first end-of-text token."""
        return jnp.argmax(ids if self.end_token is None else ids == self.end_token, axis=1)

    def _check(self, n: int) -> None:
        if n > self.positions:
            raise ValueError(f"ids has {n} tokens: must be at most positions = {self.positions}")
        if not 0 <= self.skip <= self.depth:
            raise ValueError(f"skip = {self.skip}: must be from 0 to depth = {self.depth}")
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads}: must divide width = {self.width}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation = {self.activation!r}: must be one of {', '.join(ACTIVATIONS)}")
