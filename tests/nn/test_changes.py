"""Changed attention against networks with another `attend`; skipped blocks against smaller networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal, random_params
from scipy.ndimage import gaussian_filter

from jaxflow import fields, nn, paths
from jaxflow.nn import adaln, attention
from jaxflow.nn.changes import Change, _gaussian, changed

X, T, Y = normal(2, 4, 6, 3), jnp.array([0.1, 0.9]), jnp.array([0, 3])
TEXT = nn.TokenSequence(normal(2, 3, 8), jnp.array([[True, True, False], [False] * 3]), normal(2, 6))
ROWS, COLUMNS, TOKENS = 2, 3, 6
"""Of the patches."""


def dit(depth=3, **options):
    return nn.DiT(nn.ClassTable(4), patch=2, width=8, depth=depth, heads=2, mlp_ratio=1, **options)


def mm_dit(depth=2):
    return nn.DiT(nn.TokenProjection(), patch=2, width=8, depth=depth, heads=2, joint_attention=True)


def unet(switch=True):
    return nn.UNet(
        nn.TokenProjection(),
        channels=(8,),
        attention=(switch,),
        cross_attention=(True,),
        blocks=1,
        patch=2,
        width=8,
        heads=2,
    )


NETWORKS = {"dit": (dit(), Y), "mm_dit": (mm_dit(), TEXT), "unet": (unet(), TEXT)}
PARAMS = {name: random_params(network, X, T, y) for name, (network, y) in NETWORKS.items()}


EVERY = {"dit": (0, 1, 2), "mm_dit": (0, 1), "unet": (0, 1, 2)}


def output(name, *change, **options):
    """The output of a network, with a change of its blocks."""
    network, y = NETWORKS[name]
    apply = changed(network.apply, Change(*change, **options)) if change else network.apply
    return apply({"params": PARAMS[name]}, X, T, y)


def by_hand(monkeypatch, query=lambda q: q, identity=False):
    """Attention among the image's tokens with other queries, or with the identity matrix."""

    def attend(q, k, v, *mask, **options):
        image = slice(0, TOKENS)
        if k.shape[1] == len(TEXT.tokens[0]):  # the condition's
            return real(q, k, v, *mask, **options)
        mixed = real(q.at[:, image].set(query(q[:, image])), k, v, *mask, **options)
        return mixed.at[:, image].set(v[:, image]) if identity else mixed

    real = attention.attend
    monkeypatch.setattr(attention, "attend", attend)
    monkeypatch.setattr(adaln, "attend", attend)


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_attention_is_attention_by_the_identity_matrix(name, monkeypatch):
    value = output(name, "identity_attention", blocks=EVERY[name])
    plain = output(name)
    by_hand(monkeypatch, identity=True)
    assert_close(value, output(name), 1e-5)
    assert jnp.max(jnp.abs(value - plain)) > 1e-2


@pytest.mark.parametrize(("name", "sigma"), [("dit", 0.8), ("mm_dit", 0.8), ("unet", math.inf)])
def test_blurred_attention_has_the_queries_of_a_gaussian_filter(name, sigma, monkeypatch):
    """By scipy, mirrored at the border; without bound they are the mean over all tokens."""

    def blurred(q):
        if sigma == math.inf:
            return jnp.broadcast_to(jnp.mean(q, axis=1, keepdims=True), q.shape)
        image = np.asarray(q).reshape(len(q), ROWS, COLUMNS, *q.shape[2:])
        filtered = gaussian_filter(image, sigma, axes=(1, 2), radius=math.ceil(3 * sigma), mode="reflect")
        return jnp.asarray(filtered.reshape(q.shape))

    value = output(name, "blurred_attention", blocks=EVERY[name], sigma=sigma)
    plain = output(name)
    by_hand(monkeypatch, query=blurred)
    assert_close(value, output(name), 1e-5)
    assert jnp.max(jnp.abs(value - plain)) > 1e-3


def test_skipped_blocks_are_removed():
    """The parameters of the other blocks in a network of fewer; in a U-Net its self-attentions."""
    params = dict(PARAMS["dit"])
    fewer = {**params, "block_1": params["block_2"]}
    del fewer["block_2"]
    assert_close(output("dit", "skip", blocks=(1,)), dit(2).apply({"params": fewer}, X, T, Y), 1e-6)
    params = dict(PARAMS["mm_dit"])
    params["block_0"] = params.pop("block_1")
    value = output("mm_dit", "skip", blocks=(0,))
    assert_close(value, mm_dit(1).apply({"params": params}, X, T, TEXT), 1e-6)
    without = unet(False).apply({"params": PARAMS["unet"]}, X, T, TEXT)
    assert_close(output("unet", "skip", blocks=(0, 1, 2)), without, 1e-6)


def test_no_change_changes_nothing():
    """No blocks, or a blur of no width. By default it is the middle one of three that changes."""
    assert_close(output("dit", "identity_attention", blocks=()), output("dit"), 0)
    assert_close(_gaussian(1e-3, 5), np.eye(5), 1e-12)
    assert_close(output("dit", "skip"), output("dit", "skip", blocks=(1,)), 0)


def test_a_change_passes_rematerialised_blocks_and_the_field_of_a_network():
    """A block that calls itself is blurred once."""
    change = Change("blurred_attention", sigma=0.8)
    value = output("dit", "blurred_attention", sigma=0.8)
    for network in (dit(remat=True), lambda params, x, t, y: dit().apply({"params": params}, x, t, y)):
        field = fields.from_network(network, PARAMS["dit"], paths.Linear(), change=change)
        twice = jax.jit(lambda *inputs, field=field: [field(*inputs), field(*inputs)])  # as by Heun
        assert_close(twice(X, T, Y), [value, value], 1e-5)


def test_a_change_that_no_block_can_take_is_refused():
    with pytest.raises(ValueError, match=r"blocks = \(3,\): the network has 3, numbered from 0"):
        output("dit", "skip", blocks=(3,))
    with pytest.raises(ValueError, match="no block with self-attention"):
        changed(lambda x: x, Change("skip"))(X)
    with pytest.raises(ValueError, match="must not be jitted"):
        changed(jax.jit(dit().apply), Change("skip"))({"params": PARAMS["dit"]}, X, T, Y)
    with pytest.raises(ValueError, match="scan = True"):
        jax.eval_shape(changed(dit(scan=True).init, Change("skip")), jax.random.key(0), X, T, Y)
    for options, says in (
        ({"kind": "skip", "blocks": (-1,)}, "blocks = -1"),
        ({"kind": "blurred_attention", "sigma": 0.0}, "sigma = 0"),
        ({"kind": "skip", "sigma": 1.0}, "sigma = 1.0: has no effect"),
    ):
        with pytest.raises(ValueError, match=says):
            Change(**options)
