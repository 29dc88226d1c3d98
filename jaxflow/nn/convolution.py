"""A 3 x 3 convolution whose kernel gradient is fast on CPUs too.

XLA's CPU convolutions are fast, except for the gradient of the kernel, a convolution with the whole image as
kernel and a 3 x 3 result. Here that gradient is computed by matrix products over a few examples at a time,
whose operands stay in the cache. With padded images x and kernel taps i (rows) and j (columns),

    dkernel[i, j] = sum_(r, s) x[r + i, s + j] dy[r, s]^T = sum_(r, s) x[r, s + j] dy[r - i, s]^T

so that one product of x at 3 column shifts with dy at 3 row shifts gives all nine taps.

Implementation: the derivative of the convolution in the direction (dx, dkernel) is conv(dx, kernel) +
conv(x, dkernel). A custom JVP rule writes the second term as `_products`, which has the same value and whose
transpose is the sum above. Both terms are plain JAX, so that derivatives of any order and mode work.

Only programs for CPUs have `_products`; others have XLA's convolution. Delete it once XLA's CPU kernel
gradient is as fast, as `experiments.benchmarks.workarounds` tells: with JAX 0.10.2 and 0.12.0 it is not.
"""

from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxflow.devices import mesh
from jaxflow.nn.attributes import Dtype

Image = Float[Array, "b _ _ _"]
Kernel = Float[Array, "3 3 c o"]

NUMBERS = 2**17
"""Numbers of x and dy in one product; with three shifts of each, 1.5 MiB, which fits a cache."""


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def convolve(x: Image, kernel: Kernel, stride: int = 1) -> Image:
    """3 x 3 convolution with zero padding, (b, h, w, c) -> (b, h / stride, w / stride, o), rounded up."""
    return xla(stride, x, kernel)


@partial(convolve.defjvp, symbolic_zeros=True)
def _derivative(stride: int, primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(convolve(dx, kernel, stride))
    if not isinstance(dkernel, SymbolicZero):
        terms.append(_products_on_cpu(stride, x, dkernel))
    return convolve(x, kernel, stride), sum(terms[1:], start=terms[0])


def _products_on_cpu(stride: int, x: Array, kernel: Array) -> Array:
    cpu, default = partial(_products, stride), partial(xla, stride)
    return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def xla(stride: int, x: Array, kernel: Array) -> Array:
    """The same by XLA, with its own gradients."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=numbers)


def _products(stride: int, x: Array, kernel: Array) -> Array:
    """Equal to `xla`, as matrix products of a few examples each."""
    b, h, w, c = x.shape
    most = max(1, NUMBERS // (h * w * (c + kernel.shape[-1])))
    chunks = x.reshape(-1, max(n for n in range(1, b + 1) if b % n == 0 and n <= most), h, w, c)
    # The chunks' gradients are summed in 32 bits; no copies are kept for the backward pass.
    wide = kernel.astype(jnp.float32) if kernel.dtype.itemsize < 4 else kernel
    product = jax.checkpoint(lambda chunk: _product(stride, chunk, wide.astype(x.dtype)), prevent_cse=False)
    y = jax.lax.map(product, chunks)
    return y.reshape(b, *y.shape[2:])


def _product(stride: int, x: Array, kernel: Array) -> Array:
    """All taps of a few examples in one product, in steps whose transposes are fast."""
    n, h, w, c = x.shape
    o = kernel.shape[-1]
    last_row, last_column = stride * (-(-h // stride) - 1), stride * (-(-w // stride) - 1)
    pads = jax.lax.padtype_to_pads((h, w), (3, 3), (stride, stride), "SAME")
    padded = jnp.pad(x.transpose(3, 0, 1, 2), ((0, 0), (0, 0), *pads))
    columns = jnp.stack([padded[..., j : j + last_column + 1 : stride] for j in range(3)])
    taps = kernel.transpose(1, 2, 0, 3).reshape(3 * c, 3 * o)
    rows = (columns.reshape(3 * c, -1).T @ taps).reshape(n, padded.shape[2], -1, 3 * o)
    parts = [part[:, i : i + last_row + 1 : stride] for i, part in enumerate(jnp.split(rows, 3, axis=-1))]
    return parts[0] + parts[1] + parts[2]


class Convolution(linen.Module):
    """3 x 3 convolution with bias: `linen.Conv(channels, (3, 3), strides=stride)`, parameters included.

    Attributes:
        channels: output channels.
        stride: 1, or 2 to halve the resolution.
        kernel_init: initialiser of the kernel.
        dtype: compute type, float32 or bfloat16.
    """

    channels: int
    stride: int = 1
    kernel_init: linen.initializers.Initializer = linen.initializers.lecun_normal()
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Image) -> Image:
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.channels))
        bias = self.param("bias", linen.initializers.zeros, (self.channels,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return mesh.shard_examples(convolve(x, kernel, self.stride) + bias[None, None, None])
