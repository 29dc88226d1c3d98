"""Floating point operations of a training step, and model FLOPs utilisation.

Counts the matrix products and convolutions of the program that JAX traces, a multiply-add as two operations.
Element-wise operations are not counted: they are fewer by a factor of about the width of the layers, and do
not run on the matrix units, which the peak refers to.

    utilisation = operations of the model per step / (seconds per step * peak of all devices)

The operations are those of the model however it is computed: recomputation by remat is not counted.

Source: Chowdhery et al. 2204.02311, appendix B (model FLOPs utilisation).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import PRNGKeyArray

from jaxflow.training.step import Objective, Params

PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "Tesla V100-SXM2-16GB": 125e12,
    "Tesla V100-SXM2-32GB": 125e12,
    "Tesla T4": 65e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA RTX A6000": 154.8e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
}
"""Operations per second of one JAX device by its kind: dense matrix products in bfloat16, or float16 on
devices without bfloat16 (V100, T4), accumulated in float32. On TPU v2, v3 and 7x a device is half a chip.

Sources: Google Cloud's page on each TPU version; NVIDIA's data sheets (half their figures with sparsity) and
its white papers on the GA102 and Ada architectures (GeForce, A6000).
"""


def count(function: Callable[..., Any], *args: Any) -> int:
    """Operations of the matrix products and convolutions in one call of a pure function.

    The body of a scan counts once per iteration, a conditional as its largest branch, and code that differs
    by platform as its smallest. In a convolution each element of the kernel is multiplied once per output, or
    per input if there are fewer: the zeros between the inputs of a transposed convolution are not counted,
    those of the padding are.

    Args:
        function: of arrays.
        args: its arguments, or their shapes as `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: a while loop or a Pallas kernel contains products; the program does not say how many.
    """
    return _of_program(jax.make_jaxpr(function)(*args))


def count_training(
    loss: Objective, params: Params, key: PRNGKeyArray | jax.ShapeDtypeStruct, batch: Any
) -> int:
    """Operations of a training step on a whole batch: 3 times those of the loss.

    For each product of the forward pass, the backward pass has two: the gradients of its two factors. A
    factor that needs no gradient is counted too, so this is too high where large parts of the loss are
    frozen.
    """
    return 3 * count(loss, params, key, batch)


def peak(device: jax.Device) -> float | None:
    """Peak rate of 16-bit matrix products, `PEAKS`; None for an unlisted kind of device, such as a CPU."""
    return PEAKS.get(device.device_kind)


def utilisation(flops_per_step: int, seconds_per_step: float, devices: Sequence[jax.Device]) -> float | None:
    """Model FLOPs utilisation, in [0, 1]; None if the peak of a device is unknown.

    The peak is that of 16 bits even for a model in float32, so that the numbers of two models compare.

    Args:
        flops_per_step: `count_training` for the batch of all devices.
        seconds_per_step: as measured, including all waiting.
        devices: all that share the step.
    """
    peaks = [peak(device) for device in devices]
    known = [one for one in peaks if one is not None]
    return flops_per_step / (seconds_per_step * sum(known)) if len(known) == len(peaks) else None


def _of_program(program: Jaxpr | ClosedJaxpr) -> int:
    return sum(_of_equation(equation) for equation in program.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    name = equation.primitive.name
    if name in PRODUCTS:
        return PRODUCTS[name](equation)
    parts = [_of_program(program) for program in _programs(equation)]
    if name in ("while", "pallas_call") and any(parts):
        raise ValueError(f"{name} contains matrix products: the program does not say how often they run")
    if name == "cond":
        # Where platforms compute the same thing differently, the excess is not part of the model.
        return min(parts) if equation.params.get("branches_platforms") else max(parts)
    return _times(equation) * sum(parts)


def _programs(equation: JaxprEqn) -> Iterator[Jaxpr | ClosedJaxpr]:
    """The programs inside an equation: the body of a loop, `jit` or `remat`, and branches."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (Jaxpr, ClosedJaxpr)):
                yield item


def _times(equation: JaxprEqn) -> int:
    params = equation.params
    if equation.primitive.name == "shard_map":  # the program of one device; pmap is one too
        axes = params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]  # JAX 0.10.0
        return math.prod(params["mesh"].shape[axis] for axis in axes)
    return params["length"] if equation.primitive.name == "scan" else 1


def _of_dot(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = _arrays(equation)[0], _arrays(equation)[-1]
    return 2 * out.size * math.prod(left.shape[axis] for axis in contracted)


def _of_convolution(equation: JaxprEqn) -> int:
    x, kernel, out = _arrays(equation)
    before, _, after = equation.params["dimension_numbers"]  # each of batch, channels, spatial axes
    spatial = (min(x.shape[i], out.shape[j]) for i, j in zip(before[2:], after[2:], strict=True))
    # The kernel holds the inputs of one group, and the result's batch is that of one batch group.
    return 2 * out.shape[after[0]] * math.prod(spatial) * kernel.size


def _of_attention(equation: JaxprEqn) -> int:
    """cuDNN's, which is opaque: q k^T, and the weights times the values."""
    query, key, *_, out = _arrays(equation)
    return 2 * key.shape[1 + equation.params["layout"]] * (query.size + out.size)


def _arrays(equation: JaxprEqn) -> list[Any]:
    """Shapes of the operands, then of the first result."""
    return [variable.aval for variable in (*equation.invars, equation.outvars[0])]


PRODUCTS: dict[str, Callable[[JaxprEqn], int]] = {
    "dot_general": _of_dot,
    "conv_general_dilated": _of_convolution,
    "dot_product_attention_fwd_wrapper": _of_attention,
}
