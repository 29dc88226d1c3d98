from functools import partial

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, disturbed, normal, random_params

from jaxflow import nn
from jaxflow.nn.dense import Dense
from jaxflow.nn.embeddings import TimeEmbedding, grid_positions
from jaxflow.nn.patches import from_patches, to_patches

SMALL = {"channels": (4, 8), "blocks": 1, "width": 8, "heads": 2}
NETWORKS = {
    "unet": nn.UNet(nn.ClassTable(10), **SMALL),
    "unet with a stem": nn.UNet(nn.ClassTable(10), **SMALL, patch=2),
    "dit": nn.DiT(nn.ClassTable(10), width=16, depth=1, heads=2),
}
X = normal(3, 12, 12, 1)
T, Y = jnp.array([0.0, 0.5, 1.0]), jnp.array([0, 5, 10])


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def network(request):
    return request.param


@pytest.fixture(scope="module")
def apply(network):
    """(x, t, y) -> the output, with random parameters."""
    variables = {"params": random_params(network, X, T, Y)}
    compiled = jax.jit(network.apply)
    return lambda *inputs: compiled(variables, *inputs)


def test_zero_at_initialisation_and_a_gradient_for_every_parameter(network):
    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradients(params):
        out = network.apply({"params": params}, X, T, Y)
        return jnp.sum((out - 1) ** 2), out

    params, name = random_params(network, X, T, Y), "final" if isinstance(network, nn.DiT) else "head"
    # Only the last layer of the initialisation is compiled: XLA eliminates the rest.
    last = jax.jit(lambda key: network.init(key, X, T, Y)["params"][name])(jax.random.key(1))
    assert_close(gradients({**params, name: last})[1], jnp.zeros_like(X), 0)
    for leaf in jax.tree.leaves(gradients(params)[0]):
        assert float(jnp.abs(leaf).max()) > 0


@pytest.mark.requirement("R23")
def test_finite_at_both_ends_and_alone_as_in_a_batch(apply):
    out = apply(X, T, Y)
    chex.assert_tree_all_finite(out)
    for i in range(3):
        assert_close(apply(X[i : i + 1], T[i : i + 1], Y[i : i + 1]), out[i : i + 1], 1e-4)


def test_image_time_and_condition_reach_the_output(apply):
    out = apply(X, T, Y)
    for other in (apply(X + 1, T, Y), apply(X, T * 0.5 + 0.1, Y), apply(X, T, (Y + 1) % 11)):
        assert float(jnp.abs(other - out).max(axis=(1, 2, 3)).min()) > 1e-3


def test_a_patch_must_divide_the_image_size():
    network = nn.DiT(encode=nn.ClassTable(10), patch=5, width=32, depth=1)
    with pytest.raises(ValueError, match="patch size 5: must divide the image size 12 x 12"):
        network.init(jax.random.key(0), X, T, Y)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_patches_are_undone_exactly(size):
    x = normal(2, 12, 24, 3)
    patches = to_patches(x, size)
    chex.assert_shape(patches, (2, 12 // size, 24 // size, 3 * size**2))
    assert_close(from_patches(patches, size), x, 0)


def test_patch_embedding_is_a_strided_convolution():
    x = normal(2, 8, 8, 3)
    kernel = normal(2, 2, 3, 5, seed=1)
    convolved = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    embedded = jnp.einsum("brcd,de->brce", to_patches(x, 2), kernel.reshape(-1, 5), precision="highest")
    assert_close(embedded, convolved, 1e-5)


@pytest.mark.requirement("R52")
@pytest.mark.parametrize(("height", "width"), [(16, 16), (5, 7)])
def test_positions_of_a_grid_are_the_published_ones(height, width):
    """The first half of the channels encodes the column, sines before cosines."""
    channels = 24
    expected = np.zeros((height * width, channels))
    for row, column, k in np.ndindex(height, width, channels // 4):
        frequency = 10_000 ** (-k / (channels // 4))
        for half, position in enumerate((column, row)):
            for i, f in enumerate((np.sin, np.cos)):
                expected[row * width + column, (2 * half + i) * channels // 4 + k] = f(frequency * position)
    assert_close(np.asarray(grid_positions(height, width, channels)), expected.astype(np.float32), 1e-5)


@pytest.mark.requirement("R52")
def test_features_of_time_are_the_published_ones():
    """Of 1000 t, cosines before sines."""
    t, features = np.array([0.0, 0.25, 1.0]), 256
    angles = 1000 * t[:, None] * np.exp(-np.log(10_000) * np.arange(128) / 128)[None]
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    kernel = {"kernel": jnp.eye(features), "bias": jnp.zeros(features)}
    embedding = TimeEmbedding(features, features)
    found = embedding.apply({"params": {"hidden": kernel, "out": kernel}}, jnp.asarray(t, jnp.float32))
    assert_close(found, linen.silu(expected), 1e-3)


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8)])
def test_dense_equals_that_of_linen(shape):
    x = normal(*shape)
    variables = disturbed(linen.Dense(4).init(jax.random.key(1), x))
    with jax.default_matmul_precision("highest"):
        assert_close(Dense(4).apply(variables, x), linen.Dense(4).apply(variables, x), 1e-5)
