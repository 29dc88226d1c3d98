"""Each encoder of the condition with each network."""

import itertools
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, linspace, normal, random_params

from jaxflow import losses, nn
from jaxflow.nn.conditioning import NullToken

B, M = 4, 5
KEY = jax.random.key(0)


def sequence(length):
    mask = jnp.asarray(np.broadcast_to(np.arange(M) < length, (B, M)))
    return nn.TokenSequence(normal(B, M, 8), mask, normal(B, 6))


# Encoder, y, and null.
CONDITIONS = {
    "class": (nn.ClassTable(10), jnp.array([0, 3, 5, 9]), jnp.array(10)),
    "vector": (
        nn.VectorMLP(3),
        nn.OptionalVector(normal(B, 3), jnp.ones(B, bool)),
        nn.VectorMLP(3).null,
    ),
    "sequence": (
        nn.TokenProjection(),
        sequence(3),
        nn.TokenSequence(jnp.zeros((M, 8)), jnp.zeros(M, bool), jnp.zeros(6)),
    ),
    "text": (
        nn.TextEncoder(vocabulary=7, width=16, depth=1, heads=2),
        jnp.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [6, 5, 4, 3, 2], [2, 2, 0, 0, 0]]),
        jnp.zeros(M, int),
    ),
}
CONDITIONS["several"] = (
    nn.CompositeEncoder(encoders=(CONDITIONS["class"][0], CONDITIONS["text"][0])),
    (CONDITIONS["class"][1], CONDITIONS["text"][1]),
    (CONDITIONS["class"][2], CONDITIONS["text"][2]),
)
TOKENS = ("sequence", "text", "several")
NETWORKS = {
    "dit": lambda encode, tokens: nn.DiT(encode=encode, width=16, depth=1, heads=2, cross_attention=tokens),
    "mmdit": lambda encode, tokens: nn.DiT(encode=encode, width=16, depth=2, heads=2, joint_attention=tokens),
    "unet": lambda encode, tokens: nn.UNet(
        encode=encode,
        channels=(8, 8),
        attention=(False, False),
        cross_attention=(False, tokens),
        blocks=1,
        width=16,
    ),
}
PAIRS = [pair for pair in itertools.product(NETWORKS, CONDITIONS) if pair[0] != "mmdit" or pair[1] in TOKENS]
"""Without tokens an MM-DiT is a DiT."""
X, T = normal(B, 8, 8, 1), linspace(0, 1, B)


def encoder(condition):
    """y -> its encoding, compiled, with random parameters; and these."""
    encode, y, _ = CONDITIONS[condition]
    params = random_params(NETWORKS["dit"](encode, False), X, T, y)["encode"]
    return jax.jit(lambda y, params=params: encode.apply({"params": params}, y, 16)), params


def null_of(y, null):
    return losses.drop_condition(KEY, y, null, 1.0)


@cache
def built(network, condition):
    encode, y, null = CONDITIONS[condition]
    module = NETWORKS[network](encode, condition in TOKENS)
    params = random_params(module, X, T, y)
    return jax.jit(lambda y: module.apply({"params": params}, X, T, y)), y, null


@pytest.mark.requirement("R21", "R54")
@pytest.mark.parametrize(("network", "condition"), PAIRS)
def test_a_condition_reaches_the_output_and_a_dropped_one_does_not(network, condition):
    apply, y, null = built(network, condition)
    rolled = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), y)
    out, other, nothing = apply(y), apply(rolled), apply(null_of(y, null))
    for a, b in ((out, other), (out, nothing)):
        changes = jnp.abs(a - b).max(axis=(1, 2, 3))
        assert float(changes.min()) > 1e-4
    # Half of the batch dropped: the rest is unchanged, the dropped half is that of null.
    half = jax.tree.map(lambda leaf, gone: jnp.concatenate([leaf[:2], gone[2:]]), y, null_of(y, null))
    assert_close(apply(half), jnp.concatenate([out[:2], nothing[2:]]), 1e-5)
    assert_close(apply(null_of(rolled, null)), nothing, 0)


@pytest.mark.requirement("R34")
@pytest.mark.parametrize("condition", ["vector", "sequence"])
def test_numbers_of_a_missing_condition_have_exactly_no_influence(condition):
    (encode, _), (_, y, null) = encoder(condition), CONDITIONS[condition]

    def out(y):
        return [leaf for leaf in encode(y) if leaf is not None]

    missing = null_of(y, null)
    wild = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf + 1e6, missing)
    for a, b in zip(out(wild), out(missing), strict=True):
        visible = b if a.ndim < 3 else b[:, :1]
        assert_close(a if a.ndim < 3 else a[:, :1], visible, 0)


@pytest.mark.parametrize("network", ["dit", "mmdit"])
def test_a_masked_word_has_exactly_no_influence(network):
    apply, y, _ = built(network, "sequence")
    hidden = ~y.mask[..., None]
    assert_close(apply(y._replace(tokens=jnp.where(hidden, 1e3, y.tokens))), apply(y), 0)


@pytest.mark.parametrize("network", ["dit", "mmdit", "unet"])
def test_words_permuted_with_their_positions_give_the_same(network):
    """The network reads the tokens as a set: the text encoder has put their order into them."""
    apply, y, _ = built(network, "sequence")
    order = jnp.array([2, 0, 1, 4, 3])
    permuted = y._replace(tokens=y.tokens[:, order], mask=y.mask[:, order])
    assert_close(apply(permuted), apply(y), 1e-5)


@pytest.mark.requirement("R55")
def test_text_encoder_reads_the_order_and_not_the_padding():
    (read, params), (_, y, _) = encoder("text"), CONDITIONS["text"]
    out = read(y)
    assert out.mask.tolist() == (y != 0).tolist()
    swapped = read(y.at[:, :2].set(y[:, 1::-1]))
    assert float(jnp.abs(swapped.vector - out.vector)[0].max()) > 1e-4
    # Shorter padding: still one word longer than the first caption.
    fewer = params | {"position_embedding": params["position_embedding"][:4]}
    short = read(y[:2, :4], fewer)
    assert_close(short.vector, out.vector[:2], 1e-5)


def test_an_empty_sequence_gets_a_token():
    tokens, mask = jax.random.normal(KEY, (2, 3, 4)), jnp.array([[False] * 3, [False, True, False]])
    module = NullToken()
    variables = module.init(KEY, tokens, mask)
    filled, visible = module.apply(variables, tokens, mask)
    assert visible.tolist() == [[True, False, False], [False, True, False]]
    assert_close(filled[0, 0], variables["params"]["null"], 0)
    assert_close(filled[1], tokens[1], 0)


@pytest.mark.requirement("R34")
def test_class_table_has_a_row_for_null():
    table = nn.ClassTable(10)
    variables = table.init(KEY, jnp.array([0]), 4)
    rows = table.apply(variables, jnp.arange(11), 4).vector
    chex.assert_tree_all_finite(rows)
    assert len(np.unique(np.asarray(rows), axis=0)) == 11
    assert table.null == 10


def test_several_need_a_condition_each():
    encode, (label, _), _ = CONDITIONS["several"]
    with pytest.raises(ValueError, match="y has 1 conditions for 2 encoders"):
        encode.init(KEY, (label,), 8)


@pytest.mark.parametrize("name", ["cross_attention", "joint_attention"])
def test_attention_to_text_requires_tokens(name):
    network = nn.DiT(encode=nn.ClassTable(10), width=16, depth=1, heads=2, **{name: True})
    with pytest.raises(ValueError, match=f"{name} = True: expected an encoder with tokens, got ClassTable"):
        jax.eval_shape(network.init, KEY, X, T, jnp.zeros(B, int))
