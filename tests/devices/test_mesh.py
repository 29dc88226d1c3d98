from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.collectives import traffic
from jaxflow.devices import mesh
from jaxflow.devices.mesh import of_parameter, over_examples
from jaxflow.nn.dense import Dense


@dataclass(frozen=True)
class Chip:
    """As JAX describes a chip of a TPU pod."""

    id: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    process_index: int = 0
    slice_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v6 lite"


def spec(shape, tensor=1, fully=True):
    return of_parameter(shape, over_examples(tensor=tensor), fully=fully).spec


def test_large_arrays_are_sharded_along_their_longest_axis_that_divides():
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
def test_the_longer_side_of_a_kernel_is_sharded_over_tensor(shape, expected):
    assert spec(shape, tensor=2, fully=False) == jax.P(*expected)


def test_both_axes_of_the_mesh_divide_a_kernel():
    sharding = of_parameter((128, 512), over_examples(tensor=2), fully=True)
    assert sharding.spec == jax.P("examples", "tensor")
    assert sharding.shard_shape((128, 512)) == (64, 256)


def test_the_shares_of_the_processes_make_up_the_batch(monkeypatch):
    sharding, shares = over_examples(), []
    everywhere = sharding.devices_indices_map((24,))
    for mine in (jax.devices()[:2], jax.devices()[2:]):  # as two processes with two devices each see it
        here = {device: everywhere[device] for device in mine}
        monkeypatch.setattr(jax.sharding.NamedSharding, "addressable_devices_indices_map", lambda *_: here)  # noqa: B023
        shares.append(mesh.rows_here(sharding, 24))
    assert [len(share) for share in shares] == [12, 12]
    assert np.concatenate(shares).tolist() == list(range(24))


def test_copies_over_the_tensor_axis_count_once():
    assert mesh.rows_here(over_examples(tensor=2), 8).tolist() == list(range(8))


def test_distribute_puts_each_example_on_its_device():
    sharding = over_examples()
    distributed = mesh.distribute(np.arange(8.0), sharding, 8, np.arange(8))
    assert distributed.sharding == sharding
    assert [shard.data.tolist() for shard in distributed.addressable_shards] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    assert jnp.all(distributed == jnp.arange(8.0))
    assert mesh.on_host({"x": distributed})["x"].tolist() == list(range(8))
    assert jax.process_count() == 1


def layer(small_input, tensor=1):
    """A dense layer on 8 examples, kernel (256, 1024) sharded as under fsdp, compiled for four devices."""
    examples, dense = over_examples(tensor=tensor), Dense(1024, small_input=small_input)
    x = jax.ShapeDtypeStruct((8, 256), jnp.float32, sharding=examples)
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=of_parameter(leaf.shape, examples, fully=True)
        ),
        jax.eval_shape(dense.init, jax.random.key(0), x),
    )
    with mesh.use(examples):
        return jax.jit(dense.apply).lower(params, x).compile()


@pytest.mark.parametrize("tensor", [1, 2])
@pytest.mark.parametrize("small_input", [False, True])
def test_a_layer_of_a_sharded_kernel_keeps_examples_on_their_devices(small_input, tensor):
    spec = layer(small_input, tensor).output_shardings.spec
    assert spec[0] == "examples"


def test_a_layer_gathers_its_kernel_or_its_small_input():
    kernel, numbers = 4 * 256 * 1024, 4 * 8 * (256 + 1024)
    gathered, moved = (sum(t.bytes for t in traffic(layer(s).as_text()).values()) for s in (False, True))
    assert gathered >= kernel * 3 / 4
    assert moved <= numbers


def test_constraints_are_of_programs_for_several_devices_only():
    def constrained(x):
        return mesh.shard_features(mesh.replicate(mesh.shard_examples(x)))

    x = jnp.ones((8, 8))
    assert constrained(x) is x
    with mesh.use(over_examples(jax.devices()[:1])):
        assert "sharding_constraint" not in str(jax.make_jaxpr(constrained)(x))
    with mesh.use(over_examples()):
        assert str(jax.make_jaxpr(constrained)(x)).count("sharding_constraint[") == 3
    assert jnp.all(jax.pmap(constrained, axis_name=mesh.EXAMPLES)(x.reshape(4, 2, 8)) == 1)


def test_platform_is_that_of_the_mesh(monkeypatch):
    assert mesh.platform() == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert mesh.platform() == "gpu"
    with mesh.use(over_examples()):
        assert mesh.platform() == "cpu"


@pytest.mark.parametrize("sides", [(4, 4, 1), (2, 2, 2), (8, 8, 1)])
def test_the_tensor_axis_of_a_pod_lies_between_neighbours(sides, monkeypatch):
    """Also where it is shorter than each side of the torus."""
    chips = [Chip(i, at) for i, at in enumerate(product(*map(range, sides)))]
    monkeypatch.setattr(jax, "devices", lambda: chips)
    grid = over_examples(tensor=2).mesh.devices
    assert grid.shape == (len(chips) // 2, 2)
    assert set(grid.flat) == set(chips)
    for one, other in grid:
        assert np.abs(np.subtract(one.coords, other.coords)).sum() == 1


def test_the_tensor_axis_of_several_slices_lies_within_each(monkeypatch):
    places = enumerate(product(range(2), range(4), range(4), [0]))
    chips = [Chip(i, tuple(at), slice_index=pod) for i, (pod, *at) in places]
    monkeypatch.setattr(jax, "devices", lambda: chips)
    grid = over_examples(tensor=2).mesh.devices
    assert grid.shape == (16, 2)
    assert set(grid.flat) == set(chips)
    assert [one.slice_index for one, _ in grid] == [other.slice_index for _, other in grid]
    with pytest.raises(ValueError, match=r"tensor = 32: must divide the number of devices, 32 / 2 slices"):
        over_examples(tensor=32)
