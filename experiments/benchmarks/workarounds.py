"""What each workaround for XLA's CPU backend gains: the time without it over the time with it.

    python -m experiments.benchmarks.workarounds [--repeats 15]

A workaround that gains nothing with the newest supported JAX can be deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

from experiments.benchmarks.timing import in_turn
from jaxflow.devices import compiler
from jaxflow.nn import adaln, attention, convolution, dense, depthwise, image_blocks

Function = Callable[..., jax.Array]


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    repeats: int = 15
    """Timed calls of each."""


@dataclass(frozen=True)
class Case:
    """Two equal functions of arrays."""

    where: str
    """The file with the workaround."""
    ours: Function
    plain: Function
    shapes: tuple[tuple[int, ...], ...]
    gradient: tuple[int, ...] = ()
    """The arguments of which the gradient is timed; if none, the function is."""
    dtype: Any = jnp.float32


_convolution = partial(convolution.xla, 1)


def _mlp(layer: type[linen.Module]) -> Function:
    def mlp(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        for kernel, activation in ((up, adaln.gelu), (down, lambda y: y)):
            params = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}
            x = activation(layer(kernel.shape[-1]).apply({"params": params}, x))
        return x

    return mlp


def _norm(layer: linen.Module) -> Function:
    def norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return jax.nn.silu(jnp.asarray(layer.apply({"params": {"scale": scale, "bias": bias}}, x)))

    return norm


def _losses(loop: Callable[..., jax.Array]) -> Function:
    """A few steps of gradient descent on a convolution, as a judge is trained."""

    def step(x: jax.Array, kernel: jax.Array) -> jax.Array:
        gradient = jax.grad(lambda kernel: jnp.mean(_convolution(x, kernel) ** 2))(kernel)
        return kernel - 0.1 * gradient

    return partial(loop, step)


def _unrolled(step: Function, x: jax.Array, kernel: jax.Array) -> jax.Array:
    for _ in range(5):
        kernel = step(x, kernel)
    return kernel


def _scanned(step: Function, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.scan(lambda kernel, _: (step(x, kernel), None), kernel, None, length=5)[0]


IMAGES, TOKENS = (32, 14, 14, 64), (128, 64, 256)
CASES = {
    "kernel gradient": Case(
        "nn/convolution.py", convolution.convolve, _convolution, (IMAGES, (3, 3, 64, 64)), (1,)
    ),
    "kernel gradient, bfloat16": Case(
        "nn/convolution.py",
        convolution.convolve,
        _convolution,
        (IMAGES, (3, 3, 64, 64)),
        (1,),
        jnp.bfloat16,
    ),
    "MLP on tokens": Case(
        "nn/dense.py", _mlp(dense.Dense), _mlp(linen.Dense), (TOKENS, (256, 1024), (1024, 256)), (0, 1, 2)
    ),
    "depthwise convolution": Case(
        "nn/depthwise.py", depthwise.shifted, depthwise.grouped, ((128, 8, 8, 256), (3, 3, 1, 256)), (0, 1)
    ),
    "group norm": Case(
        "nn/image_blocks.py",
        _norm(image_blocks.GroupNorm()),
        _norm(linen.GroupNorm(num_groups=None, group_size=16)),
        ((64, 16, 16, 64), (64,), (64,)),
        (0, 1, 2),
    ),
    "attention": Case(
        "nn/attention.py",
        partial(attention.attend, implementation="matmul"),
        partial(attention.attend, implementation="xla"),
        ((128, 64, 4, 64),) * 3,
        (0, 1, 2),
    ),
    "training loop": Case(
        "evaluation/judge.py",
        _losses(_unrolled),
        _losses(_scanned),
        ((32, 28, 28, 16), (3, 3, 16, 16)),
    ),
}


def main(argv: list[str] | None = None) -> None:
    """Print a line per workaround."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.workarounds")
    print(f"JAX {jax.__version__}, {jax.default_backend()}; least milliseconds of {a.repeats} calls")
    print(f"{'':26}{'file':22}{'with':>9}{'without':>9}{'gain':>7}")
    for name, case in CASES.items():
        ours, plain = timed(case, a.repeats)
        print(f"{name:26}{case.where:22}{ours:9.1f}{plain:9.1f}{plain / ours:7.2f}", flush=True)


def timed(case: Case, repeats: int) -> tuple[float, float]:
    """Milliseconds with the workaround and without.

    Raises:
        AssertionError: the two functions differ.
    """
    rng = np.random.default_rng(0)
    arrays = [
        jnp.asarray(rng.standard_normal(shape) * (shape[0] if i else 1) ** -0.5, case.dtype)
        for i, shape in enumerate(case.shapes)
    ]
    ours, plain = (compiled(function, case) for function in (case.ours, case.plain))
    for own, other in zip(jax.tree.leaves(ours(*arrays)), jax.tree.leaves(plain(*arrays)), strict=True):
        own, other = (np.asarray(array, np.float32) for array in (own, other))
        assert np.abs(own - other).max() <= 0.02 * np.abs(other).max()
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: jax.block_until_ready(ours(*arrays)),
        "plain": lambda: jax.block_until_ready(plain(*arrays)),
    }
    times = in_turn(calls, repeats)
    return times["ours"][0], times["plain"][0]


def compiled(function: Function, case: Case) -> Any:
    """The function, or its gradient, compiled as a training step is."""
    gradient = jax.grad(lambda *arrays: jnp.sum(function(*arrays) ** 2), argnums=case.gradient)
    return jax.jit(gradient if case.gradient else function, compiler_options=compiler.options())


if __name__ == "__main__":
    main()
