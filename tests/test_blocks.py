import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import blocks
from jaxflow.training.layouts import over_examples


def test_processes_have_a_share_of_a_batch_each_and_together_all(monkeypatch):
    sharding, shares = over_examples(), []
    everywhere = sharding.devices_indices_map((24,))
    for mine in (jax.devices()[:2], jax.devices()[2:]):  # as two processes with two devices each see it
        here = {device: everywhere[device] for device in mine}
        monkeypatch.setattr(jax.sharding.NamedSharding, "addressable_devices_indices_map", lambda *_: here)  # noqa: B023
        shares.append(blocks.places_here(sharding, 24))
    assert [len(share) for share in shares] == [12, 12]
    assert np.concatenate(shares).tolist() == list(range(24))


def test_copies_over_the_other_axis_of_the_mesh_count_once():
    assert blocks.places_here(over_examples(tensor=2), 8).tolist() == list(range(8))


@pytest.mark.parametrize("n", [1, 7, 8, 20])
@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_blocks_are_exact_for_a_last_one_that_is_not_full(n, tensor):
    examples = {"a": np.arange(3.0 * n, dtype=np.float32).reshape(n, 3), "i": np.arange(n)}
    seen = []

    def function(block):
        seen.append(block["i"].shape)
        return block["a"].sum(axis=1), block["i"] + 1

    sums, numbers = blocks.in_blocks(function, examples, size=6, sharding=over_examples(tensor=tensor))
    np.testing.assert_array_equal(sums, examples["a"].sum(axis=1))
    assert numbers.tolist() == list(range(1, n + 1))
    assert len(set(seen)) == 1  # one program
    assert seen[0][0] % (4 // tensor) == 0


def test_examples_lie_where_the_sharding_says():
    sharding = over_examples()
    laid = blocks.lay(np.arange(8.0), sharding, 8, np.arange(8))
    assert laid.sharding == sharding
    assert [shard.data.tolist() for shard in laid.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert jnp.all(laid == jnp.arange(8.0))
    assert blocks.on_host({"x": laid})["x"].tolist() == list(range(8))
    assert jax.process_count() == 1
