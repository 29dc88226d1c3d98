from functools import partial
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from jaxflow import nn
from jaxflow.nn.attention import attend
from jaxflow.nn.convolution import convolve
from jaxflow.nn.dit import DiT, published
from jaxflow.training import flops

ROWS, WIDTH = 6, 16
DENSE = 2 * ROWS * WIDTH**2
"""Operations of one square layer on `X`."""
X, W = jnp.ones((ROWS, WIDTH)), jnp.ones((WIDTH, WIDTH))


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def dense(x, w=W):
    return jnp.tanh(x @ w)


def test_matrix_product():
    assert flops.count(jnp.matmul, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7


def test_batch_of_matrix_products():
    logits = partial(jnp.einsum, "bnhd,bmhd->bhnm")
    assert flops.count(logits, shape(2, 6, 4, 8), shape(2, 5, 4, 8)) == 2 * (2 * 4) * 6 * 5 * 8


@pytest.mark.parametrize(
    ("x", "kernel", "options", "outputs", "inputs_of_each"),
    [
        ((2, 8, 8, 4), (3, 3, 2, 6), {"window_strides": (2, 2), "feature_group_count": 2}, 2 * 16 * 6, 9 * 2),
        ((4, 8, 8, 5), (3, 3, 5, 6), {"window_strides": (1, 1), "batch_group_count": 2}, 2 * 64 * 6, 9 * 5),
    ],
)
def test_convolution_in_groups(x, kernel, options, outputs, inputs_of_each):
    numbers = ("NHWC", "HWIO", "NHWC")
    of = partial(jax.lax.conv_general_dilated, padding="SAME", dimension_numbers=numbers, **options)
    assert flops.count(of, shape(*x), shape(*kernel)) == 2 * outputs * inputs_of_each


def test_transposed_convolution_multiplies_no_zeros_between_inputs():
    inputs, outputs_of_each = 2 * 5 * 5 * 4, 16 * 7
    transposed = partial(jax.lax.conv_transpose, strides=(2, 2), padding="SAME")
    assert flops.count(transposed, shape(2, 5, 5, 4), shape(4, 4, 4, 7)) == 2 * inputs * outputs_of_each


def test_the_compiler_counts_the_same():
    stack = lambda x, a, b: x @ a @ b  # noqa: E731
    args = (shape(6, 8), shape(8, 16), shape(16, 4))
    assert flops.count(stack, *args) == jax.jit(stack).lower(*args).cost_analysis()["flops"]


def repeat(times, function, x):
    return jax.lax.scan(lambda x, _: (function(x), None), x, None, length=times)[0]


@jax.custom_vjp
def own_gradient(x):
    return dense(x)


own_gradient.defvjp(lambda x: (dense(x), x), lambda x, cotangent: (cotangent,))


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (dense, 1),
        (lambda x: dense(jax.jit(lambda x: jax.jit(dense)(x))(x)), 2),
        (jax.checkpoint(lambda x: dense(dense(x))), 2),
        (own_gradient, 1),
        (jax.vmap(lambda row: dense(row[None])[0]), 1),
        (partial(repeat, 5, dense), 5),
        (partial(repeat, 3, partial(repeat, 2, dense)), 6),
        (lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: dense(dense(x)), dense, x), 2),
        (lambda x: jax.lax.platform_dependent(x, cpu=lambda x: dense(dense(x)), default=dense), 1),
        (lambda x: jax.lax.while_loop(lambda x: x[0, 0] > 0, jnp.cos, dense(x)), 1),
        (lambda x: jnp.cumsum(jax.nn.softmax(x), axis=0), 0),
    ],
)
def test_programs_inside_programs(function, products):
    assert flops.count(function, X) == products * DENSE


def test_all_devices_of_a_mapped_function():
    rows = jax.P("rows")
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(dense, mesh=mesh, in_specs=(rows, jax.P()), out_specs=rows)
    assert flops.count(mapped, shape(4 * ROWS, WIDTH), W) == 4 * DENSE
    assert flops.count(jax.pmap(dense), shape(4, ROWS, WIDTH)) == 4 * DENSE


def test_products_in_a_while_loop_are_an_error():
    with pytest.raises(
        ValueError, match="while contains matrix products: the program does not say how often"
    ):
        flops.count(lambda x: jax.lax.while_loop(lambda x: x[0, 0] > 0, dense, x), X)


def test_fused_attention_counts_as_its_two_products(monkeypatch):
    module = (
        "jax._src.cudnn.fused_attention_stablehlo"  # its program can be traced, if not run, without a GPU
    )
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda *_: 91000)
    monkeypatch.setattr(f"{module}.check_compute_capability", lambda *_: True)
    query, key = (shape(2, n, 4, 64, dtype=jnp.bfloat16) for n in (16, 24))
    fused, plain = (
        flops.count(partial(attend, implementation=name), query, key, key) for name in ("cudnn", "matmul")
    )
    assert fused == plain == 2 * 2 * (2 * 4) * 16 * 24 * 64


def test_convolution_of_16_bits_counts_as_one():
    """Whichever products a CPU computes it by."""
    x, kernel = shape(2, 8, 8, 4, dtype=jnp.bfloat16), shape(3, 3, 4, 6, dtype=jnp.bfloat16)
    assert flops.count(lambda *args: convolve(*args, 2), x, kernel) == 2 * (2 * 4 * 4 * 6) * (9 * 4)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_transformer(scan, remat):
    b, side, c, patch, width, depth, ratio, frequencies = 2, 8, 3, 2, 16, 3, 4, 10
    network = DiT(None, patch, width, depth, 2, ratio, frequencies=frequencies, scan=scan, remat=remat)
    arguments = shape(b, side, side, c), shape(b), None
    params = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    tokens, pixels = (side // patch) ** 2, patch**2 * c
    of_token = 4 * width**2 + 2 * tokens * width + 2 * ratio * width**2
    block = tokens * of_token + width * 6 * width
    ends = 2 * tokens * pixels * width + width * 2 * width
    expected = 2 * b * (frequencies * width + width**2 + depth * block + ends)
    assert flops.count(network.apply, params, *arguments) == expected


@pytest.mark.parametrize(("size", "billions"), [("S", 1.4), ("B", 5.6), ("L", 19.7), ("XL", 29.1)])
def test_published_transformers(size, billions):
    """Table 1 of 2212.09748, to one decimal; a multiplication and its addition are one operation there."""
    network = published(size, 4, nn.ClassTable(1000), scan=True)
    arguments = shape(1, 32, 32, 4), shape(1), shape(1, dtype=jnp.int32)
    params = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    assert_close(flops.count(network.apply, params, *arguments) / 2e9, billions, 0.01)


def test_a_step_has_three_times_the_products_of_its_loss():
    key = jax.eval_shape(jax.random.key, 0)
    loss = lambda w, key, x: jnp.sum(dense(dense(x, w), w) ** 2, axis=1)  # noqa: E731
    step = jax.value_and_grad(lambda w, key, x: jnp.sum(loss(w, key, x)), argnums=(0, 2))
    assert flops.count_training(loss, W, key, X) == flops.count(step, W, key, X) == 3 * 2 * DENSE
    assert flops.count_training(jax.checkpoint(loss), W, key, X) == 3 * 2 * DENSE


def device(kind):
    return Mock(spec=jax.Device, device_kind=kind)


def test_peak_of_a_device():
    assert flops.peak(device("NVIDIA H100 80GB HBM3")) == 989.4e12
    assert flops.peak(device("NVIDIA H100 80GB HBM3 MIG 1g.10gb")) is None
    assert flops.peak(jax.devices("cpu")[0]) is None


def test_utilisation():
    devices = [device("TPU v4"), device("TPU v4")]
    assert_close(flops.utilisation(275 * 10**12, 2.0, devices), 0.25, 1e-15)
    assert flops.utilisation(275 * 10**12, 2.0, [*devices, device("TPU v99")]) is None
