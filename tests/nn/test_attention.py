import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, normal

from jaxflow.nn.attention import Attention, attend

QUERY = normal(2, 6, 2, 8)
KEY, VALUE = (normal(2, 5, 2, 8, seed=seed) for seed in (1, 2))
MASK = jnp.array([[True, True, False, True, False], [False, True, False, False, False]])


def written_out(query, key, value, mask):
    """One query and one head at a time."""

    def one(q, k, v, m):
        logits = jnp.where(m, k @ q / jnp.sqrt(8.0), -jnp.inf)
        return jax.nn.softmax(logits) @ v

    over_queries = jax.vmap(one, (0, None, None, None))
    over_heads = jax.vmap(over_queries, (1, 1, 1, None), 1)
    return jax.vmap(over_heads)(query, key, value, mask)


@pytest.mark.parametrize("implementation", ["auto", "matmul", "xla"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_implementations_are_the_formula(implementation, mask):
    with jax.default_matmul_precision("highest"):
        expected = written_out(QUERY, KEY, VALUE, jnp.ones((2, 5), bool) if mask is None else mask)
        assert_close(attend(QUERY, KEY, VALUE, mask, implementation=implementation), expected, 1e-6)


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("implementation", ["matmul", "xla"])
def test_a_masked_token_has_exactly_no_influence(implementation):
    def out(key, value):
        return attend(QUERY, key, value, MASK, implementation=implementation)

    hidden = ~MASK[..., None, None]
    disturbed = out(jnp.where(hidden, KEY + 1e3, KEY), jnp.where(hidden, -VALUE * 1e3, VALUE))
    assert_close(disturbed, out(KEY, VALUE), 0)
    gradients = jax.grad(lambda *kv: jnp.sum(jnp.sin(out(*kv))), argnums=(0, 1))(KEY, VALUE)
    for gradient in gradients:
        assert_close(jnp.where(hidden, gradient, 0), jnp.zeros_like(gradient), 0)
        assert float(jnp.abs(gradient).max()) > 1e-3


@pytest.mark.parametrize("implementation", ["matmul", "xla"])
def test_bfloat16_has_its_softmax_in_float32(implementation, standard_promotion):
    """Over 4,096 equal keys a sum in bfloat16 would lose the weights; the mean of the values is exact."""
    key = jnp.zeros((1, 4096, 1, 8), jnp.bfloat16)
    value = jnp.tile(jnp.array([1.0, 3.0], jnp.bfloat16), 2048)[None, :, None, None] * jnp.ones(
        (1, 1, 1, 8), jnp.bfloat16
    )
    query = jnp.ones((1, 1, 1, 8), jnp.bfloat16)
    out = attend(query, key, value, implementation=implementation)
    assert out.dtype == jnp.bfloat16
    assert_close(out.astype(jnp.float32), 2 * jnp.ones((1, 1, 1, 8)), 1e-2)


def test_no_such_implementation():
    with pytest.raises(ValueError, match="implementation = 'magic': must be one of auto, matmul, xla, cudnn"):
        attend(QUERY, KEY, VALUE, implementation="magic")


@pytest.mark.requirement("R52")
def test_tokens_attend_to_all_tokens():
    attention = Attention(heads=2)
    tokens = jax.random.normal(jax.random.key(0), (1, 6, 8))
    variables = attention.init(jax.random.key(1), tokens)
    jacobian = jax.jacobian(lambda tokens: attention.apply(variables, tokens))(tokens)
    influence = jnp.abs(jacobian).max(axis=(0, 2, 3, 5))
    assert float(influence.min()) > 1e-6


def test_normalised_queries_and_keys_ignore_their_scale():
    attention = Attention(heads=2, qk_norm=True)
    tokens, others = QUERY.reshape(2, 6, 16), KEY.reshape(2, 5, 16)
    variables = attention.init(jax.random.key(1), tokens, others)
    scaled = jax.tree.map(lambda leaf: leaf, variables)
    for name in ("query", "key"):
        projection = scaled["params"][name]
        projection |= {"kernel": projection["kernel"] * 50}
    assert_close(attention.apply(scaled, tokens, others), attention.apply(variables, tokens, others), 1e-4)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="heads = 3 does not divide the 16 channels"):
        Attention(heads=3).init(jax.random.key(0), QUERY.reshape(2, 6, 16))
