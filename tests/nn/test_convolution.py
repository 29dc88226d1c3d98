from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close
from flax import linen
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow.nn import convolution
from jaxflow.nn.convolution import Convolution, convolve

KEYS = jax.random.split(jax.random.key(0), 4)
X, DX = (jax.random.normal(key, (6, 5, 8, 2)) for key in KEYS[:2])
KERNEL, DKERNEL = (jax.random.normal(key, (3, 3, 2, 3)) for key in KEYS[2:])


def reference(x, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=numbers)


def loss(convolve, stride):
    return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride)))


def pushed(f):
    """Its derivative along DX and DKERNEL, as a function."""
    return lambda x, kernel: jax.jvp(f, (x, kernel), (DX, DKERNEL))[1]


USES = {
    "value": lambda f: f(X, KERNEL),
    "forward": lambda f: pushed(f)(X, KERNEL),
    "reverse": lambda f: jax.grad(f, (0, 1))(X, KERNEL),
    "reverse of forward": lambda f: jax.grad(pushed(f), (0, 1))(X, KERNEL),
    "forward of reverse": lambda f: pushed(jax.grad(f, (0, 1)))(X, KERNEL),
    "over images": lambda f: jax.vmap(jax.grad(f, (0, 1)), (0, None))(jnp.stack([X, DX]), KERNEL),
    "over kernels": lambda f: jax.vmap(jax.grad(f, (0, 1)), (None, 0))(X, jnp.stack([KERNEL, DKERNEL])),
    "remat": lambda f: jax.grad(jax.checkpoint(f), (0, 1))(X, KERNEL),
    "scan": lambda f: jax.grad(
        lambda k: jax.lax.scan(lambda s, x: (s + f(x, k), None), 0.0, jnp.stack([X, DX]))[0]
    )(KERNEL),
}


@pytest.fixture(params=[16, 2**17], ids=["one by one", "all at once"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(convolution, "NUMBERS", request.param)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_as_xla(use, stride, chunks):
    actual, expected = (jax.jit(lambda f=f: use(loss(f, stride)))() for f in (convolve, reference))
    assert_close(actual, expected, 1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 1, 1, 2), (5, 2, 3, 2), (4, 7, 6, 1)])
def test_gradient_of_the_kernel_at_odd_sizes(shape, stride):
    x = jax.random.normal(KEYS[0], shape)
    kernel = jax.random.normal(KEYS[2], (3, 3, shape[-1], 3))
    gradients = [jax.jit(jax.grad(loss(f, stride), 1))(x, kernel) for f in (convolve, reference)]
    assert_close(*gradients, 1e-4)


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "jaxpr")):
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                yield from primitives(getattr(value, "jaxpr", value))


def test_derivative_in_the_image_alone_computes_nothing_for_the_kernel():
    names = list(primitives(jax.make_jaxpr(jax.grad(loss(convolve, 1), 0))(X, KERNEL)))
    assert names.count("conv_general_dilated") == 2
    assert "scan" not in names
    assert "scan" in list(primitives(jax.make_jaxpr(jax.grad(loss(convolve, 1), 1))(X, KERNEL)))


def test_no_copies_are_kept_for_the_backward_pass():
    """Of the image's size and its result's, what is kept is a small multiple, not the nine of the patches."""
    _, backward = jax.vjp(partial(convolve, X), KERNEL)
    kept = sum(leaf.size for leaf in jax.tree.leaves(backward) if hasattr(leaf, "size"))
    assert_below(kept, 2.5 * X.size + KERNEL.size)


def test_bfloat16_gradient_is_added_in_32_bits(monkeypatch):
    """Of 512 equal parts: added in bfloat16, a sum stops growing where a part is less than its last digit."""
    monkeypatch.setattr(convolution, "NUMBERS", 1)
    x, kernel = jnp.ones((512, 1, 1, 1), jnp.bfloat16), jnp.zeros((3, 3, 1, 1), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(convolve(x, kernel))))(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert_close(gradient[1, 1].astype(jnp.float32), jnp.full((1, 1), 512.0), 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_matrix_products_on_a_cpu(stride, chunks):
    """Rounded a few times to eight binary digits, where XLA rounds once."""
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    both = lambda f: lambda x, kernel: (f(x, kernel, stride), jax.grad(loss(f, stride), (0, 1))(x, kernel))  # noqa: E731
    program = jax.jit(both(convolve)).lower(x, kernel).compile()
    assert " convolution(" not in program.as_text()
    rounded = (a.astype(jnp.float32) for a in (x, kernel))
    for actual, expected in zip(
        *map(jax.tree.leaves, (program(x, kernel), both(reference)(*rounded))), strict=True
    ):
        assert actual.dtype == jnp.bfloat16
        assert_below(
            jnp.max(jnp.abs(actual.astype(jnp.float32) - expected)), 2**-5 * jnp.max(jnp.abs(expected))
        )


def test_on_four_devices():
    x = jnp.tile(X, (2, 1, 1, 1))
    split = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    gradient = jax.jit(jax.grad(loss(convolve, 1), 1))(jax.device_put(x, split), KERNEL)
    assert_close(gradient, jax.jit(jax.grad(loss(reference, 1), 1))(x, KERNEL), 1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_module_is_linen_conv(stride):
    module, expected = Convolution(3, stride), linen.Conv(3, (3, 3), strides=stride)
    shapes = [jax.eval_shape(m.init, KEYS[0], X)["params"] for m in (module, expected)]
    assert shapes[0] == shapes[1]
    variables = {"params": {"kernel": KERNEL, "bias": jnp.array([1.0, -2.0, 0.5])}}
    assert_close(module.apply(variables, X), expected.apply(variables, X), 1e-5)
