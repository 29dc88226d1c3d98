"""Transformer blocks with adaLN-Zero: modulated by a vector, the identity at initialisation.

    x + gate(e) f(scale(e) norm(x) + shift(e))

where f is attention, then an MLP; scale - 1, shift and gate are linear in silu(e) and zero at initialisation.

`DiTBlock` is modulated by the vector, and can also cross-attend to a sequence of tokens. Of a clip it attends
within each frame, and then over time, each position to itself in all frames. `MMDiTBlock` has two
streams, image and text, each with its own weights, whose tokens attend to all tokens of both.

Norms and modulation are float32 in every compute type. The backward pass of these and of the GELU keeps only
their inputs and recomputes the rest, which is faster than storing it.

Source: Peebles and Xie 2212.09748 (adaLN-Zero); Chen et al. 2310.00426 (cross-attention); Esser et al.
2403.03206 (joint attention).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxflow.nn.attention import Attention, Heads, Rotation, attend, project_heads
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.dense import Dense
from jaxflow.nn.depthwise import DepthwiseConvolution
from jaxflow.nn.embeddings import rotate

Tokens = Float[Array, "b n c"]
Embedding = Float[Array, "b d"]
Part = Float[Array, "b 1 c"]


class Modulation(linen.Module):
    """`parts` modulation vectors per example, (b, 1, channels) each; zero at initialisation."""

    parts: int
    channels: int

    @linen.compact
    def __call__(self, embedding: Embedding) -> list[Part]:
        zeros = linen.initializers.zeros
        linear = Dense(self.parts * self.channels, kernel_init=zeros, small_input=True, name="linear")
        return jnp.split(linear(linen.silu(embedding))[:, None], self.parts, axis=-1)


@jax.checkpoint
def modulate(x: Tokens, shift: Part, scale: Part) -> Tokens:
    """LayerNorm of the tokens, times 1 + scale, plus shift; computed in float32, returned in x's dtype."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    norm = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
    return (norm * (1 + scale) + shift).astype(x.dtype)


@jax.checkpoint
def gelu(x: Tokens) -> Tokens:
    """GELU in its tanh approximation."""
    return jax.nn.gelu(x, approximate=True)


class MLP(linen.Module):
    """Two layers with a GELU in between, (b, n, c) -> (b, n, c)."""

    ratio: int = 4
    dropout: float = 0.0
    train: bool = False
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Tokens) -> Tokens:
        dense = partial(Dense, kernel_init=linen.initializers.xavier_uniform(), dtype=self.dtype)
        h = gelu(dense(self.ratio * x.shape[-1], name="up")(x))
        h = linen.Dropout(self.dropout, deterministic=not self.train, name="dropout")(h)
        return dense(x.shape[-1], name="down")(h)


class DiTBlock(linen.Module):
    """Self-attention and MLP with adaLN-Zero; between them cross-attention to `others`, if given.

    Attributes:
        heads: attention heads.
        mlp_ratio: width of the MLP's hidden layer, in multiples of the channels.
        dropout: dropout rate in the MLP.
        qk_norm: whether queries and keys are normalised.
        grid: rows and columns of the tokens.
        frames: of a clip that attends in space and then in time; 1 if all tokens attend to each other.
        turn: rotates queries and keys of the image by their positions; None for none.
        depthwise: whether the block starts with a depthwise convolution over neighbouring tokens.
        dtype: compute type.
        implementation: that of `attention.attend`.
        train: whether dropout is active.
    """

    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.0
    qk_norm: bool = False
    grid: tuple[int, int] = (0, 0)
    frames: int = 1
    turn: Rotation | None = None
    depthwise: bool = False
    dtype: Dtype = "float32"
    implementation: str = "auto"
    train: bool = False

    @linen.compact
    def __call__(
        self,
        x: Tokens,
        embedding: Embedding,
        others: Float[Array, "b m e"] | None = None,
        mask: Bool[Array, "b m"] | None = None,
    ) -> Tokens:
        shift1, scale1, gate1, shift2, scale2, gate2 = Modulation(6, x.shape[-1], name="modulation")(
            embedding
        )
        attention = partial(
            Attention, self.heads, self.qk_norm, dtype=self.dtype, implementation=self.implementation
        )
        if self.depthwise:
            x = DepthwiseConvolution(self.grid, name="depthwise")(x)
        in_space = partial(attention(name="attention"), rotate=self.turn)
        x = _add(x, gate1, _each_frame(in_space, modulate(x, shift1, scale1), self.frames))
        if self.frames > 1:
            shift, scale, gate = Modulation(3, x.shape[-1], name="time_modulation")(embedding)
            turn = partial(rotate, height=1, width=1, frames=self.frames)
            in_time = partial(attention(name="time_attention"), rotate=turn)
            x = _add(x, gate, _each_position(in_time, modulate(x, shift, scale), self.frames))
        if others is not None:
            norm = linen.LayerNorm(dtype=jnp.float32, name="cross_norm")
            queries = norm(x.astype(jnp.float32)).astype(x.dtype)
            x = x + attention(out_init=linen.initializers.zeros, name="cross_attention")(
                queries, others, mask
            )
        mlp = MLP(self.mlp_ratio, self.dropout, self.train, self.dtype, name="mlp")
        return _add(x, gate2, mlp(modulate(x, shift2, scale2)))


class MMDiTBlock(linen.Module):
    """Joint attention and MLPs with adaLN-Zero, for image tokens x and text tokens `others` in two streams.

    Attributes are those of `DiTBlock` but for `frames`, and:
        last: whether this is the last block, after which the text stream is unused.
        dual: whether image tokens also attend among themselves, by an attention of their own.
    """

    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.0
    qk_norm: bool = False
    grid: tuple[int, int] = (0, 0)
    turn: Rotation | None = None
    depthwise: bool = False
    dtype: Dtype = "float32"
    implementation: str = "auto"
    train: bool = False
    last: bool = False
    dual: bool = False

    @linen.compact
    def __call__(
        self, x: Tokens, embedding: Embedding, others: Float[Array, "b m c"], mask: Bool[Array, "b m"] | None
    ) -> tuple[Tokens, Float[Array, "b m c"]]:
        n, c = x.shape[1:]
        image = Modulation(9 if self.dual else 6, c, name="image_modulation")(embedding)
        text = Modulation(2 if self.last else 6, c, name="text_modulation")(embedding)
        if self.depthwise:
            x = DepthwiseConvolution(self.grid, name="depthwise")(x)
        own, other = modulate(x, *image[:2]), modulate(others, *text[:2])
        query, key, value = self._project("image", own)
        if self.turn is not None:
            query, key = self.turn(query), self.turn(key)
        text_query, text_key, text_value = self._project("text", other, queries=not self.last)
        if mask is not None:
            mask = jnp.concatenate([jnp.ones(x.shape[:2], bool), mask], axis=1)
        mixed = attend(
            query if self.last else jnp.concatenate([query, text_query], axis=1),
            jnp.concatenate([key, text_key], axis=1),
            jnp.concatenate([value, text_value], axis=1),
            mask,
            implementation=self.implementation,
        ).reshape(x.shape[0], -1, c)
        if self.dual:
            shift, scale, gate = image[6:]
            attention = Attention(
                self.heads,
                self.qk_norm,
                dtype=self.dtype,
                implementation=self.implementation,
                name="attention",
            )
            x = _add(x, gate, attention(modulate(x, shift, scale), rotate=self.turn))
        x = self._finish("image", x, mixed[:, :n], image[2:6])
        return x, others if self.last else self._finish("text", others, mixed[:, n:], text[2:])

    def _project(self, stream: str, x: Tokens, queries: bool = True) -> tuple[Any, Heads, Heads]:
        """Queries (None without `queries`), keys and values of one stream."""
        project = partial(project_heads, x, heads=self.heads, channels=x.shape[-1], dtype=self.dtype)
        query = project(f"{stream}_query", norm=self.qk_norm) if queries else None
        return query, project(f"{stream}_key", norm=self.qk_norm), project(f"{stream}_value")

    def _finish(self, stream: str, x: Tokens, mixed: Tokens, modulation: list[Part]) -> Tokens:
        gate1, shift2, scale2, gate2 = modulation
        init = linen.initializers.xavier_uniform()
        out = Dense(x.shape[-1], kernel_init=init, dtype=self.dtype, name=f"{stream}_out")
        x = _add(x, gate1, out(mixed))
        mlp = MLP(self.mlp_ratio, self.dropout, self.train, self.dtype, name=f"{stream}_mlp")
        return _add(x, gate2, mlp(modulate(x, shift2, scale2)))


def _each_frame(f: Callable[[Tokens], Tokens], x: Tokens, frames: int) -> Tokens:
    """Apply f to the tokens of each frame, as to an image."""
    b, n, c = x.shape
    return f(x.reshape(b * frames, n // frames, c)).reshape(b, n, c)


def _each_position(f: Callable[[Tokens], Tokens], x: Tokens, frames: int) -> Tokens:
    """Apply f to the tokens of all frames at each position."""
    b, n, c = x.shape
    columns = x.reshape(b, frames, n // frames, c).swapaxes(1, 2)
    return f(columns.reshape(-1, frames, c)).reshape(columns.shape).swapaxes(1, 2).reshape(b, n, c)


def _add(x: Tokens, gate: Part, change: Tokens) -> Tokens:
    return x + (gate * change.astype(gate.dtype)).astype(x.dtype)
