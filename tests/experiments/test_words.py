import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import words as script
from jaxflow import paths
from jaxflow.data.codecs import Captions
from jaxflow.runs.model import Model
from jaxflow.spaces import Pixels

CODEC = Captions(("a", "red", "blue", "square"), 3)


def test_errors_grow_by_what_a_network_believes_of_other_words(capsys):
    """It predicts 1 at "red", -1 at "blue", else 0, whatever x; both swaps of shapes change nothing."""
    ids = {word: int(CODEC.encode(word)[0]) for word in ("red", "blue")}

    def network(params, x, t, y):
        red, blue = (jnp.any(y == ids[word], axis=1) for word in ("red", "blue"))
        sign = jnp.where(red, 1.0, jnp.where(blue, -1.0, 0.0))
        return jnp.broadcast_to(sign[:, None, None, None], x.shape)

    model = Model(network, {}, paths.Linear(), "data", CODEC, Pixels((2, 2, 1)))
    captions = ["a red square", "a blue square", "a square"]
    conditions = script.said(model, captions, [["red", "blue"], ["square", "a"]])
    data = jnp.array([1.0, -1.0, 0.5])[:, None, None, None] * jnp.ones((3, 2, 2, 1))
    rows = script.errors(model, data, conditions, (0.25, 0.5))
    truth, without, other = 0.25 * 4 / 3, 2 * 4 / 3, 2 * 16 / 3
    for row in rows:
        assert [*row] == ["with caption", "without", "red/blue", "square/a"]
        np.testing.assert_allclose([*row.values()], [truth, without, other, 0], atol=2e-5)


def test_a_group_has_two_words(tmp_path):
    assert script.group("red,blue") == ["red", "blue"]
    for text in ("red", "red,red", "red,", ""):
        with pytest.raises(ValueError, match="two or more words"):
            script.group(text)
