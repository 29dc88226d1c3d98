import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.devices import layouts
from jaxflow.devices.layouts import over_examples, split


def spec(shape, tensor=1, fully=True):
    return split(shape, over_examples(tensor=tensor), fully=fully).spec


def test_large_arrays_are_split_along_their_longest_axis_that_divides():
    assert spec((256, 1024)) == jax.P(None, "examples")
    assert spec((1024, 255)) == jax.P("examples", None)
    assert spec((255, 1023)) == jax.P(None, None)
    assert spec((1024,)) == jax.P(None)
    assert spec((256, 1024), fully=False) == jax.P(None, None)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((128, 512), (None, "tensor")),  # the hidden layer of an MLP, from one side
        ((512, 128), ("tensor", None)),  # and from the other
        ((128, 128), (None, "tensor")),  # heads
        ((6, 128, 512), (None, None, "tensor")),  # blocks in a loop
        ((3, 3, 64, 128), (None, None, None, "tensor")),
        ((129, 512), (None, "tensor")),
        ((512, 129), ("tensor", None)),
        ((129, 515), (None, None)),
        ((2**16,), (None,)),
    ],
)
def test_the_longer_side_of_a_kernel_is_split_over_tensor(shape, expected):
    assert spec(shape, tensor=2, fully=False) == jax.P(*expected)


def test_both_axes_of_the_mesh_divide_a_kernel():
    sharding = split((128, 512), over_examples(tensor=2), fully=True)
    assert sharding.spec == jax.P("examples", "tensor")
    assert sharding.shard_shape((128, 512)) == (64, 256)


def test_processes_have_a_share_of_a_batch_each_and_together_all(monkeypatch):
    sharding, shares = over_examples(), []
    everywhere = sharding.devices_indices_map((24,))
    for mine in (jax.devices()[:2], jax.devices()[2:]):  # as two processes with two devices each see it
        here = {device: everywhere[device] for device in mine}
        monkeypatch.setattr(jax.sharding.NamedSharding, "addressable_devices_indices_map", lambda *_: here)  # noqa: B023
        shares.append(layouts.rows_here(sharding, 24))
    assert [len(share) for share in shares] == [12, 12]
    assert np.concatenate(shares).tolist() == list(range(24))


def test_copies_over_the_other_axis_of_the_mesh_count_once():
    assert layouts.rows_here(over_examples(tensor=2), 8).tolist() == list(range(8))


def test_examples_lie_where_the_sharding_says():
    sharding = over_examples()
    laid = layouts.lay(np.arange(8.0), sharding, 8, np.arange(8))
    assert laid.sharding == sharding
    assert [shard.data.tolist() for shard in laid.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert jnp.all(laid == jnp.arange(8.0))
    assert layouts.on_host({"x": laid})["x"].tolist() == list(range(8))
    assert jax.process_count() == 1
