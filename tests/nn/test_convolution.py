from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, normal
from flax import linen
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow.nn import convolution
from jaxflow.nn.convolution import Convolution, convolve

X, DX = (normal(6, 5, 8, 2, seed=seed) for seed in (0, 1))
KERNEL, DKERNEL = (normal(3, 3, 2, 3, seed=seed) for seed in (2, 3))


def reference(x, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=numbers)


def loss(convolve, stride):
    return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride)))


def pushed(f):
    """The derivative of f along DX and DKERNEL."""
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


@cache
def all_uses(convolve, stride, numbers):
    """All uses in one program, which also depends on `numbers`."""
    return jax.jit(lambda: {name: use(loss(convolve, stride)) for name, use in USES.items()})()


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_equals_that_of_xla(stride, chunks):
    assert_close(all_uses(convolve, stride, convolution.NUMBERS), all_uses(reference, stride, 0), 1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 1, 1, 2), (5, 2, 3, 2), (4, 7, 6, 1)])
def test_gradient_of_the_kernel_at_odd_sizes(shape, stride):
    x, kernel = normal(*shape), normal(3, 3, shape[-1], 3, seed=1)
    gradients = [jax.jit(jax.grad(loss(f, stride), 1))(x, kernel) for f in (convolve, reference)]
    assert_close(*gradients, 1e-4)


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "jaxpr")):
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                yield from primitives(getattr(value, "jaxpr", value))


def test_derivative_in_the_image_alone_skips_that_of_the_kernel():
    names = list(primitives(jax.make_jaxpr(jax.grad(loss(convolve, 1), 0))(X, KERNEL)))
    assert names.count("conv_general_dilated") == 2
    assert "scan" not in names
    assert "scan" in list(primitives(jax.make_jaxpr(jax.grad(loss(convolve, 1), 1))(X, KERNEL)))


def test_no_copies_are_kept_for_the_backward_pass():
    """What is kept is a small multiple of the image, not the nine copies of its patches."""
    _, backward = jax.vjp(partial(convolve, X), KERNEL)
    kept = sum(leaf.size for leaf in jax.tree.leaves(backward) if hasattr(leaf, "size"))
    assert_below(kept, 2.5 * X.size + KERNEL.size)


def test_bfloat16_gradient_is_accumulated_in_float32(monkeypatch):
    """Of 512 equal terms: a sum in bfloat16 stops growing once a term is below its last digit."""
    monkeypatch.setattr(convolution, "NUMBERS", 1)
    x, kernel = jnp.ones((512, 1, 1, 1), jnp.bfloat16), jnp.zeros((3, 3, 1, 1), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(convolve(x, kernel))))(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert_close(gradient[1, 1].astype(jnp.float32), jnp.full((1, 1), 512.0), 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_the_convolution_up_to_rounding(stride, chunks):
    """Rounded a few times to 8 bits where XLA rounds once."""
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    both = lambda f: lambda x, kernel: (f(x, kernel, stride), jax.grad(loss(f, stride), (0, 1))(x, kernel))  # noqa: E731
    program = jax.jit(both(convolve))
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
def test_module_equals_that_of_linen(stride):
    module, expected = Convolution(3, stride), linen.Conv(3, (3, 3), strides=stride)
    shapes = [jax.eval_shape(m.init, jax.random.key(0), X)["params"] for m in (module, expected)]
    assert shapes[0] == shapes[1]
    variables = {"params": {"kernel": KERNEL, "bias": jnp.array([1.0, -2.0, 0.5])}}
    assert_close(module.apply(variables, X), expected.apply(variables, X), 1e-5)
