import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal, random_params

from jaxflow import nn
from jaxflow.nn.lab_unet import LabUNet, ResidualLayer

KEY = jax.random.key(0)
T, Y = jnp.array([0.2, 0.9]), jnp.array([3, 10])
SMALL = LabUNet(nn.ClassTable(10), channels=(4, 8), layers=1, width=6)
X = normal(2, 4, 4, 1)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_as_many_parameters_as_in_the_lab():
    params = jax.eval_shape(LabUNet(nn.ClassTable(10)).init, KEY, jnp.zeros((1, 32, 32, 1)), T[:1], Y[:1])
    params = params["params"]
    assert count(params) == 1_233_325
    assert count(params["time"]) == 20
    assert count(params["encode"]) == 11 * 40
    for name, c in (("encoder_0", 32), ("encoder_1", 64), ("midcoder", 128), ("decoder_0", 32)):
        for i in range(2):
            adapter = 40 * 40 + 40 + 40 * c + c
            assert count(params[f"{name}_{i}"]) == 2 * (9 * c * c + c) + 2 * 2 * c + 2 * adapter


def test_resolutions():
    """32 x 32 x 32 -> 8 x 8 x 128 -> 32 x 32 x 1: down after every two layers, up before them."""
    network = LabUNet(nn.ClassTable(10))

    def run(key, x):
        return network.init_with_output(key, x, T, Y, capture_intermediates=True)

    out, variables = jax.eval_shape(run, KEY, jnp.zeros((2, 32, 32, 1)))
    shapes = {
        name: found["__call__"][0].shape[1:]
        for name, found in variables["intermediates"].items()
        if name != "__call__" and hasattr(found["__call__"][0], "shape")
    }
    sizes = {"encoder_0_1": (32, 32, 32), "down_0": (16, 16, 64), "down_1": (8, 8, 128)}
    sizes |= {"midcoder_1": (8, 8, 128), "up_1": (16, 16, 64), "up_0": (32, 32, 32), "last": (32, 32, 1)}
    assert {name: shapes[name] for name in sizes} == sizes
    assert out.shape == (2, 32, 32, 1)


def test_residual_layer_by_hand():
    """x + conv2(norm2(silu(conv1(norm1(silu(x))) + time + condition))) of one pixel, in NumPy."""
    layer, x = ResidualLayer(), normal(2, 1, 1, 4)
    t, y = normal(2, 3, seed=1), normal(2, 3, seed=2)
    variables = {"params": random_params(layer, x, t, y, size=0.5)}
    p, t_, y_ = jax.tree.map(np.asarray, (variables["params"], t, y))

    def silu(v):
        return v / (1 + np.exp(-v))

    def norm(name, v):  # one group of four channels
        deviation = v - v.mean(axis=-1, keepdims=True)
        return deviation / np.sqrt(v.var(axis=-1, keepdims=True) + 1e-6) * p[name]["scale"] + p[name]["bias"]

    def conv(name, v):
        return v @ p[name]["kernel"][1, 1] + p[name]["bias"]

    def adapter(name, v):
        hidden = silu(v @ p[name]["hidden"]["kernel"] + p[name]["hidden"]["bias"])
        return hidden @ p[name]["out"]["kernel"] + p[name]["out"]["bias"]

    pixel = np.asarray(x)[:, 0, 0]
    h = conv("conv1", norm("norm1", silu(pixel))) + adapter("time", t_) + adapter("condition", y_)
    expected = pixel + conv("conv2", norm("norm2", silu(h)))
    assert_close(layer.apply(variables, x, t, y)[:, 0, 0], expected, 1e-4)


def test_every_parameter_has_a_gradient_and_examples_are_independent():
    params = random_params(SMALL, X, T, Y, size=0.5)

    @jax.jit
    def gradients(params, x, t, y):
        def loss(params, x):
            return jnp.sum(SMALL.apply({"params": params}, x, t, y)[0] ** 2)

        return jax.grad(loss, (0, 1))(params, x)

    in_params, in_x = gradients(params, X, T, Y)
    assert_close(in_x[1], jnp.zeros_like(in_x[1]), 0)
    assert float(jnp.abs(in_x[0]).max()) > 0
    del in_params["encode"]  # a table, of which only one row is read
    for leaf in jax.tree.leaves(in_params):
        assert float(jnp.abs(leaf).max()) > 0


def test_sizes_must_be_multiples_of_four():
    with pytest.raises(ValueError, match="image size 30 x 32: must be multiples of 4"):
        jax.eval_shape(LabUNet(nn.ClassTable(10)).init, KEY, jnp.zeros((2, 30, 32, 1)), T, Y)
