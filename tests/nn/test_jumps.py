"""Networks of fields as networks of maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal, random_params

from jaxflow import nn, paths
from jaxflow.map_losses import flow_map
from jaxflow.nn.jumps import as_jumps

X, T, WORDS = normal(2, 8, 8, 1), jnp.array([0.1, 0.6]), jnp.array([[1, 2, 0], [0, 0, 0]])
LENGTH = jnp.array([0.0, 0.3])
GUIDANCE = nn.Guidance(jnp.array([1.0, 4.0]), jnp.array([0.0, 0.2]), jnp.array([1.0, 0.7]))
TEXT = nn.TextEncoder(5, width=8, depth=1, heads=2)
NETWORKS = {
    "U-Net": (nn.UNet(None, (4,), (True,), blocks=1, width=8, heads=2, time="fourier"), nn.ClassTable(4)),
    "DiT": (nn.DiT(None, 4, 16, 1, 2, positions="rotary", qk_norm=True, depthwise=True), nn.ClassTable(4)),
    "DiT, text": (nn.DiT(None, 4, 16, 1, 2, cross_attention=True, scan=True, remat=True), TEXT),
}


@pytest.fixture(params=NETWORKS)
def networks(request):
    """A network of a field, the same of its map, and a condition."""
    network, encode = NETWORKS[request.param]
    jumps = network.clone(encode=nn.JumpEncoder(encode, most=8.0))
    return network.clone(encode=encode), jumps, WORDS if encode is TEXT else jnp.array([0, 4])


@pytest.mark.requirement("R69")
def test_the_parameters_of_a_field_are_a_start_for_its_map(networks):
    """Which at first does not know how far it jumps."""
    field, jumps, y = networks
    params = random_params(field, X, T, y)
    jump = nn.Jump(y, LENGTH, GUIDANCE)
    initialise = jax.jit(jumps.encode.init, static_argnums=2)
    encoder = initialise(jax.random.key(0), jump, jumps.width)["params"]
    shapes = jax.eval_shape(jumps.init, jax.random.key(0), X, T, jump)["params"]
    start = as_jumps(params, {"encode": encoder})
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, shapes)
    here, before = (
        jax.jit(net.apply)({"params": of}, X, T, given)
        for net, of, given in ((jumps, start, jump), (field, params, y))
    )
    assert_close(here, before, 1e-6)


@pytest.mark.requirement("R69", "R71")
def test_the_derivative_along_a_trajectory_passes_through_the_network(networks):
    """Against a difference; and every number that a jump is given matters."""
    _, jumps, y = networks
    params = random_params(jumps, X, T, nn.Jump(y, LENGTH, GUIDANCE))
    s, direction = T + LENGTH, normal(2, 8, 8, 1, seed=1)

    @jax.jit
    def average(x, t, guidance):
        return jumps.apply({"params": params}, x, t, nn.Jump(y, s - t, guidance))

    _, rate = jax.jvp(partial(average, guidance=GUIDANCE), (X, T), (direction, jnp.ones(2)))
    h = 1e-4
    ends = [average(X + sign * h * direction, T + sign * h, GUIDANCE) for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * h)
    assert np.abs(rate - difference).max() < 0.03 * np.abs(difference).max()
    here = average(X, T, GUIDANCE)
    for name in GUIDANCE._fields:
        moved = average(X, T, GUIDANCE._replace(**{name: getattr(GUIDANCE, name) * 0.9 + 0.01}))
        assert np.abs(moved - here).max() > 1e-4


@pytest.mark.requirement("R69")
def test_the_loss_of_a_map_has_a_gradient_for_every_parameter(networks):
    _, jumps, y = networks
    params = random_params(jumps, X, T, nn.Jump(y, LENGTH, GUIDANCE))

    def loss(params):
        average = lambda x, t, s, y: jumps.apply({"params": params}, x, t, nn.Jump(y, s - t, GUIDANCE))  # noqa: E731
        ends = lambda u: (T, T + LENGTH)  # noqa: E731
        return jnp.sum(flow_map(jax.random.key(0), average, paths.Linear(), X, y, ends=ends))

    gradient = jax.jit(jax.grad(loss))(params)
    silent = [path for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if not np.any(leaf)]
    assert silent == []
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_network_with_guidance_inside_needs_it(networks):
    _, jumps, y = networks
    with pytest.raises(ValueError, match="guidance = None: must be given"):
        jax.eval_shape(jumps.init, jax.random.key(0), X, T, nn.Jump(y, LENGTH))
    plain = jumps.clone(encode=jumps.encode.clone(most=None))
    assert (
        "w_embedding" not in jax.eval_shape(plain.init, jax.random.key(0), X, T, nn.Jump(y, LENGTH))["params"]
    )
