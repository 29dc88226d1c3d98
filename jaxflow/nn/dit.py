"""Diffusion transformer: the image, or the clip, as a sequence of patches with self-attention.

Time and the condition vector modulate each block (`adaln`); condition tokens, such as the words of a caption,
enter by cross-attention, or by joint attention with the image.

An image is a clip of one frame. In a clip, patches attend either to all others, or, factorised, to those of
their frame and then to themselves in other frames; that second attention is absent in an image, and zero at
initialisation, so that the parameters of an image's network are a start for one of clips (`inflation`).

An auxiliary head, a last layer of its own after the first few blocks, predicts the same as the network. Its
output is sown as `auxiliary_output` into `intermediates`, and is computed only where these are asked for.

Source: "Building an Image Generator", section on diffusion transformers; Peebles and Xie 2212.09748.
Factorised attention: Bertasius et al. 2102.05095. Auxiliary head: Zhou et al. 2512.24176.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as linen
from annotated_types import Gt, Interval, MultipleOf
from jaxtyping import Array, Float

from jaxflow.nn.adaln import DiTBlock, MMDiTBlock, Modulation, Tokens, modulate
from jaxflow.nn.attention import Implementation, Rotation
from jaxflow.nn.attributes import Depth, Dtype, HeadCount, Patch, Rate, Ratio, TimeFeatures, Width, check
from jaxflow.nn.conditioning import Encoded
from jaxflow.nn.dense import Dense
from jaxflow.nn.embeddings import TimeEmbedding, grid_positions, rotate
from jaxflow.nn.in_turn import in_turn
from jaxflow.nn.patches import from_tubes, to_tubes
from jaxflow.typing import Condition, Time


class DiT(linen.Module):
    """Diffusion transformer (x, t, y) -> array of x's shape, zero at initialisation.

    x are images (b, h, w, c) or clips (b, frames, h, w, c).

    Attributes:
        encode: encoder of the condition, (y, width) -> `Encoded`; None for a network that ignores y.
        patch: side of a patch in pixels; divides the image size.
        width: channels per token; a multiple of 4 and of `heads`.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: width of the hidden layer of each block's MLP, in multiples of `width`.
        dropout: dropout rate in the MLPs.
        cross_attention: whether image tokens cross-attend to the encoder's tokens in each block.
        joint_attention: whether image and text tokens attend jointly, in two streams (MM-DiT).
        dual_blocks: number of first blocks of an MM-DiT with a second attention, among image tokens only.
        positions: position embedding of the patches: sinusoidal, learned, or rotary.
        position_grid: side of the learned table, from whose centre an image takes its positions; 0 for a
            table of the image's own size, which then is the only one.
        attention_in_time: whether the patches of a clip attend in space and then in time, or all to all.
        tube: frames of a patch; divides their number, unless that is one.
        depthwise: start each block with a depthwise 3 x 3 convolution; small models learn faster with it.
        qk_norm: normalise queries and keys.
        time: sinusoidal or learned Fourier features of t.
        frequencies: number of those features; even.
        period: of the slowest sinusoid of 1000 t, in multiples of 2 pi.
        learned_variance: whether there is a second output per channel, as published; it is not returned.
        auxiliary: number of blocks before the auxiliary head, below `depth`; 0 for none.
        remat: recompute the blocks in the backward pass instead of storing their activations.
        scan: compile a single block as a loop over all, with stacked parameters.
        dtype: compute type, float32 or bfloat16; parameters, norms, softmax and t are float32.
        attention_implementation: that of `attention.attend`.
    """

    encode: linen.Module | None
    patch: Patch = 2
    width: Annotated[Width, MultipleOf(4)] = 256
    depth: Depth = 6
    heads: HeadCount = 4
    mlp_ratio: Ratio = 4
    dropout: Rate = 0.0
    cross_attention: bool = False
    joint_attention: bool = False
    dual_blocks: Annotated[int, Interval(ge=0, le=512)] = 0
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    position_grid: Annotated[int, Interval(ge=0, le=4096)] = 0
    attention_in_time: Literal["factorised", "full"] = "factorised"
    tube: Annotated[int, Interval(ge=1, le=64)] = 1
    depthwise: bool = False
    qk_norm: bool = False
    time: TimeFeatures = "sinusoidal"
    frequencies: Annotated[Width, MultipleOf(2)] = 128
    period: Annotated[float, Gt(1)] = 1e4
    learned_variance: bool = False
    auxiliary: Annotated[int, Interval(ge=0, le=1024)] = 0
    remat: bool = False
    scan: bool = False
    dtype: Dtype = "float32"
    attention_implementation: Implementation = "auto"

    @linen.compact
    def __call__(
        self, x: Float[Array, "b *f h w c"], t: Time, y: Condition, *, train: bool = False
    ) -> Float[Array, "b *f h w c"]:
        check(self)
        if self.auxiliary >= self.depth:
            raise ValueError(f"auxiliary = {self.auxiliary}: must be below depth = {self.depth}; 0 for none")
        encoded = Encoded() if self.encode is None else self.encode(y, self.width)  # type: ignore[operator]
        time = TimeEmbedding(
            self.width, self.frequencies, self.time == "fourier", self.period, name="time_embedding"
        )
        embedding = time(t)
        if encoded.vector is not None:
            embedding = embedding + encoded.vector
        patches = to_tubes(x, self.patch, self.tube)
        b, frames, rows, columns, d = patches.shape
        embed = Dense(self.width, dtype=self.dtype, name="patch_embedding")
        tokens = self._with_positions(embed(patches.reshape(b * frames, rows * columns, d)), rows, columns)
        tokens = tokens.reshape(b, -1, self.width)

        def output(tokens: Tokens, name: str) -> Array:
            shift, scale = Modulation(2, self.width, name=f"{name}_modulation")(embedding)
            outputs = d * (2 if self.learned_variance else 1)
            final = Dense(outputs, kernel_init=linen.initializers.zeros, dtype=self.dtype, name=name)
            out = final(modulate(tokens, shift, scale)).reshape(b, frames, rows, columns, outputs)
            return from_tubes(out, self.patch, self.tube, x.shape).astype(x.dtype)

        def sow(tokens: Tokens) -> None:
            if self.is_initializing() or self.is_mutable_collection("intermediates"):
                self.sow("intermediates", "auxiliary_output", output(tokens, "auxiliary_final"))

        tokens = self._blocks(tokens, embedding, encoded, (frames, rows, columns), train, sow)
        return output(tokens, "final")

    def _with_positions(self, tokens: Tokens, rows: int, columns: int) -> Tokens:
        """Add the position embeddings, unless they are rotary."""
        if self.positions == "rotary":
            return tokens
        if self.positions == "learned":
            positions = self._learned_positions(rows, columns)
        else:
            positions = grid_positions(rows, columns, self.width)[None]
        return tokens + positions.astype(tokens.dtype)

    def _learned_positions(self, rows: int, columns: int) -> Float[Array, "1 n c"]:
        side = self.position_grid
        if side and max(rows, columns) > side:
            raise ValueError(
                f"image of {rows} x {columns} patches: the table has positions for {side} x {side}"
            )
        table = (side, side) if side else (rows, columns)
        init = linen.initializers.normal(0.02)
        positions = self.param("position_embedding", init, (1, math.prod(table), self.width))
        top, left = (table[0] - rows) // 2, (table[1] - columns) // 2
        cropped = positions.reshape(*table, self.width)[top : top + rows, left : left + columns]
        return cropped.reshape(1, rows * columns, self.width)

    def _blocks(
        self,
        tokens: Tokens,
        embedding: Array,
        encoded: Encoded,
        grid: tuple[int, int, int],
        train: bool,
        sow: Callable[[Tokens], None],
    ) -> Tokens:
        self._check_tokens(encoded)
        frames, *sides = grid
        factorised = frames > 1 and self.attention_in_time == "factorised"
        kind: Any = MMDiTBlock if self.joint_attention else DiTBlock
        # Inside a loop the compiler cannot merge the recomputation with the forward pass anyway.
        block: Any = partial(
            linen.remat(kind, prevent_cse=not self.scan) if self.remat else kind,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            qk_norm=self.qk_norm,
            grid=tuple(sides),
            turn=self._turn(1 if factorised else frames, *sides),
            depthwise=self.depthwise,
            dtype=self.dtype,
            implementation=self.attention_implementation,
            train=train,
        )
        if self.joint_attention:
            if factorised:
                raise ValueError("attention_in_time = 'factorised': must be 'full' with joint_attention")
            embed: Any = Dense(self.width, dtype=self.dtype, name="text_embedding")
            both = lambda block, streams: block(streams[0], embedding, streams[1], encoded.mask)  # noqa: E731
            repeat = partial(self._repeat, middle=lambda streams: sow(streams[0]))
            streams, first = (tokens, embed(encoded.tokens)), min(self.dual_blocks, self.depth - 1)
            dual = partial(block, dual=True)
            streams = repeat(dual, both, streams, range(first), "dual_blocks")
            streams = repeat(block, both, streams, range(first, self.depth - 1))
            final = dual if self.dual_blocks >= self.depth else block
            return both(final(last=True, name=f"block_{self.depth - 1}"), streams)[0]
        if factorised:
            block = partial(block, frames=frames)
        seen = (encoded.tokens, encoded.mask) if self.cross_attention else ()
        one = lambda block, x: block(x, embedding, *seen)  # noqa: E731
        return self._repeat(block, one, tokens, range(self.depth), middle=sow)

    def _turn(self, frames: int, height: int, width: int) -> Rotation | None:
        """The rotation by position, and by frame where all frames attend to each other."""
        in_space = self.positions == "rotary"
        if frames == 1 and not in_space:
            return None
        return partial(rotate, height=height, width=width, frames=frames, in_space=in_space)

    def _check_tokens(self, encoded: Encoded) -> None:
        if self.cross_attention and self.joint_attention:
            raise ValueError("cross_attention = joint_attention = True: at most one may be True")
        for name in ("cross_attention", "joint_attention"):
            if getattr(self, name) and encoded.tokens is None:
                encoder = type(self.encode).__name__
                raise ValueError(f"{name} = True: expected an encoder with tokens, got {encoder}")

    def _repeat(
        self,
        block: Any,
        apply: Callable[[linen.Module, Any], Any],
        x: Any,
        numbers: range,
        name: str = "blocks",
        *,
        middle: Callable[[Any], None],
    ) -> Any:
        """Apply the blocks of these numbers, unrolled or as a scan over one compiled block of this name.

        What the auxiliary head sees is passed to `middle`; the blocks after it are a scan of their own.
        """
        cut = self.auxiliary
        if numbers.start < cut < numbers.stop:
            x = self._repeat(block, apply, x, range(numbers.start, cut), name, middle=middle)
            return self._repeat(block, apply, x, range(cut, numbers.stop), f"later_{name}", middle=middle)
        if self.scan and numbers:
            body = linen.scan(
                lambda block, x, _: (apply(block, x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=len(numbers),
            )
            x = body(block(name=name), x, None)[0]
        else:
            for i in numbers:
                x = in_turn(apply, block(name=f"block_{i}"), x, self.dtype)
        if numbers and numbers.stop == cut:
            middle(x)
        return x


SIZES: dict[str, dict[str, int]] = {
    "S": {"depth": 12, "width": 384, "heads": 6},
    "B": {"depth": 12, "width": 768, "heads": 12},
    "L": {"depth": 24, "width": 1024, "heads": 16},
    "XL": {"depth": 28, "width": 1152, "heads": 16},
}
"""The published sizes, Peebles and Xie, table 1."""


def published(size: str, patch: int, encode: linen.Module | None, **options: Any) -> DiT:
    """DiT-S, B, L or XL with this patch size: the published function of the parameters, up to `options`.

    Args:
        size: S, B, L or XL.
        patch: side of a patch; 2, 4 and 8 were published.
        encode: encoder of the condition; `ClassTable(1000)` as published.
        options: attributes of `DiT` to override.

    Raises:
        ValueError: the size is unknown.

    Source: Peebles and Xie 2212.09748, section 3 and facebookresearch/DiT, models.py.
    """
    if size not in SIZES:
        raise ValueError(f"size = {size!r}: must be one of {', '.join(SIZES)}")
    own: dict[str, Any] = {"frequencies": 256, "learned_variance": True, **SIZES[size]}
    return DiT(encode=encode, patch=patch, **{**own, **options})
