r"""Changes of a trained network that make it worse on purpose, to guide away from: of its attention or depth.

    identity_attention   each token attends to itself alone: softmax(q k^T) becomes the identity
    blurred_attention    queries are blurred over the image by a Gaussian; an infinite one takes their mean
    skip                 blocks are left out, as if their residual branches were zero

Networks know nothing of it: the methods of their submodules are intercepted while they are applied. Blocks
are those of a transformer, and in a U-Net its self-attentions; they are numbered as they are called.
Attention to the condition and over time stays as it is; in joint attention the image's tokens change, and
those of the text attend as before.

The blur mirrors the image at its border, the last tokens included, so that the mean is its limit; the code of
the paper leaves them out. diffusers 0.42 takes the mean where sigma is finite.

Source: Ahn et al. 2403.17377 (perturbed attention); Hong 2408.00760 (smoothed energy); Stability AI's code of
Stable Diffusion 3.5 (skipped layers, there 7, 8 and 9).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import ranges
from jaxflow.nn.adaln import DiTBlock, MMDiTBlock
from jaxflow.nn.image_blocks import AttentionBlock
from jaxflow.nn.stable_unet import SpatialTransformer

Kind = Literal["identity_attention", "blurred_attention", "skip"]
Path = tuple[str, ...]
Interceptor = Callable[..., Any]
Output = TypeVar("Output")


@dataclass(frozen=True)
class Change:
    """A change of some blocks of a network.

    Raises:
        ValueError: the kind is unknown, a number negative, or sigma not positive or without effect.
    """

    kind: Kind
    blocks: tuple[int, ...] | None = None
    """Their numbers; the middle one if None."""
    sigma: float = math.inf
    """Of the blur, in tokens."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind = {self.kind!r}: must be one of {', '.join(get_args(Kind))}")
        for number in self.blocks or ():
            ranges.at_least(0, blocks=number)
        if not self.sigma > 0:
            raise ValueError(f"sigma = {self.sigma}: must be positive")
        if self.sigma != math.inf and self.kind != "blurred_attention":
            raise ValueError(f"sigma = {self.sigma}: has no effect without kind = 'blurred_attention'")


def changed(apply: Callable[..., Output], change: Change) -> Callable[..., Output]:
    """The function `apply` of arrays, in which Flax modules are called, with this change of their blocks.

    Raises:
        ValueError: while tracing: there is no such block, the blocks are compiled as one (`scan`), or
            `apply` is jitted.

    >>> changed(lambda x: x + 1, Change("skip", blocks=(7,)))(jnp.ones(1))
    Traceback (most recent call last):
    ...
    ValueError: change = skip: the network has no block with self-attention to change
    """

    def call(*arguments: Any) -> Output:
        paths = _paths(apply, *arguments)
        numbers = (len(paths) // 2,) if change.blocks is None else change.blocks
        if not paths:
            raise ValueError(
                f"change = {change.kind}: the network has no block with self-attention to change"
            )
        if max(numbers, default=0) >= len(paths):
            raise ValueError(f"blocks = {numbers}: the network has {len(paths)}, numbered from 0")
        chosen = {paths[i] for i in numbers}
        met: set[Path] = set()
        with _intercepting(_by(change, chosen, met)):
            output = apply(*arguments)
        if met != chosen:
            raise ValueError("apply: must not be jitted, since its trace is kept without the change")
        return output

    return call


def _paths(apply: Callable[..., Any], *arguments: Any) -> list[Path]:
    """The blocks in the order in which they are called; nothing is computed."""
    paths: dict[Path, None] = {}

    def note(method: Any, inputs: Any, options: Any, context: linen.module.InterceptorContext) -> Any:
        if getattr(context.module, "scan", False):
            raise ValueError("scan = True: blocks that are compiled as one cannot be changed apart")
        if _is_block(context, inputs):
            paths[context.module.path] = None
        return method(*inputs, **options)

    with _intercepting(note):
        # A function of its own each time: traces of a known one are cached, and then no method is called.
        jax.eval_shape(lambda *inputs: apply(*inputs), *arguments)
    return list(paths)


def _is_block(context: linen.module.InterceptorContext, inputs: Any) -> bool:
    module = context.module
    if context.method_name != "__call__":
        return False
    if isinstance(module, AttentionBlock):
        return len(inputs) == 1  # others are those of a cross-attention
    return isinstance(module, (DiTBlock, MMDiTBlock, SpatialTransformer))


def _by(change: Change, chosen: set[Path], met: set[Path]) -> Interceptor:
    """The change of the chosen blocks; those that are met are added to `met`."""
    inside: set[Path] = set()

    def block(method: Any, inputs: Any, options: Any, context: linen.module.InterceptorContext) -> Any:
        path = context.module.path
        # A rematerialised block calls itself.
        if path not in chosen or path in inside or not _is_block(context, inputs):
            return method(*inputs, **options)
        met.add(path)
        if change.kind == "skip":
            return (inputs[0], inputs[2]) if isinstance(context.module, MMDiTBlock) else inputs[0]
        layer = (
            _identity()
            if change.kind == "identity_attention"
            else _blur(change.sigma, _grid(context, inputs))
        )
        inside.add(path)
        try:
            with _intercepting(layer):
                return method(*inputs, **options)
        finally:
            inside.remove(path)

    return block


def _identity() -> Interceptor:
    """The output layer of an attention takes the values instead of their means."""
    values: dict[Path, Array] = {}

    def layer(method: Any, inputs: Any, options: Any, context: linen.module.InterceptorContext) -> Any:
        role, stream = _role(context)
        if role == "out":
            tokens = values[stream]
            return method(tokens.reshape(inputs[0].shape), *inputs[1:], **options)
        output = method(*inputs, **options)
        if role == "value":
            values[stream] = output
        return output

    return layer


def _blur(sigma: float, grid: tuple[int, int]) -> Interceptor:
    """The layer of the queries returns them blurred."""
    rows, columns = (_gaussian(sigma, n) for n in grid)

    def layer(method: Any, inputs: Any, options: Any, context: linen.module.InterceptorContext) -> Any:
        output = method(*inputs, **options)
        if _role(context)[0] != "query":
            return output
        image = output.reshape(-1, *grid, output.shape[-1])
        along = [jnp.asarray(matrix, output.dtype) for matrix in (rows, columns)]
        blurred = jnp.einsum("ih,bhwc,jw->bijc", along[0], image, along[1], precision="highest")
        return blurred.reshape(output.shape)

    return layer


def _role(context: linen.module.InterceptorContext) -> tuple[str, Path]:
    """What a layer of an attention among the image's tokens makes, and the attention; "" for any other."""
    *attention, name = context.module.path
    if context.method_name != "__call__" or {"cross_attention", "time_attention"} & set(attention):
        return "", ()
    role = name.removeprefix("image_")
    return (role if role in ("query", "value", "out") else ""), tuple(attention)


def _grid(context: linen.module.InterceptorContext, inputs: Any) -> tuple[int, int]:
    """Rows and columns of the tokens of a block."""
    module = context.module
    return module.grid if isinstance(module, (DiTBlock, MMDiTBlock)) else inputs[0].shape[1:3]


def _gaussian(sigma: float, n: int) -> Float[np.ndarray, "n n"]:
    """The blur of n tokens as a matrix."""
    if math.isinf(sigma):
        return np.full((n, n), 1 / n)
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    mirrored = np.pad(np.eye(n), ((reach, reach), (0, 0)), mode="symmetric")
    blur = np.sum([weight * mirrored[k : k + n] for k, weight in enumerate(weights)], axis=0)
    return blur / weights.sum()


def _intercepting(interceptor: Interceptor) -> AbstractContextManager[None]:
    return linen.intercept_methods(interceptor)
