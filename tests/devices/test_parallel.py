from unittest.mock import Mock

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxflow.devices import mesh, parallel
from jaxflow.training.step import initial_state


def shapes():
    params = {"wide": jnp.zeros((256, 1024)), "odd": jnp.zeros((255, 1023)), "small": jnp.zeros(1024)}
    return jax.eval_shape(lambda: initial_state(params, optax.adam(1e-3)))


def test_parameters_moments_and_average_are_sharded_under_fsdp():
    layout = parallel.placement("fsdp").shard(shapes())
    for tree in (layout.params, layout.ema, layout.optimizer[0].mu, layout.optimizer[0].nu):
        assert tree["wide"].sharding.shard_shape((256, 1024)) == (256, 256)
        assert tree["small"].sharding.is_fully_replicated
    assert all(
        s.sharding.is_fully_replicated for s in jax.tree.leaves(parallel.placement("data").shard(shapes()))
    )


def test_auto_is_data_on_several_devices_and_fsdp_where_a_copy_does_not_fit(monkeypatch):
    assert parallel.placement("auto").kind == "data"
    device = Mock(spec=jax.Device, memory_stats=lambda: {"bytes_limit": 100})
    examples = mesh.over_examples()
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(jax, "devices", lambda: [device, device])
    monkeypatch.setattr(mesh, "over_examples", lambda devices, tensor: examples)
    assert parallel.placement("auto", state_bytes=60).kind == "fsdp"
    assert parallel.placement("auto", state_bytes=40).kind == "data"
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert parallel.placement("auto", state_bytes=60).kind == "jit"


def test_impossible_mappings_are_errors():
    with pytest.raises(ValueError, match="tensor = 2: kernels are sharded under parallel = data and fsdp"):
        parallel.placement("pmap", tensor=2)
    with pytest.raises(ValueError, match="tensor = 3: must divide the number of devices, 4"):
        parallel.placement("data", tensor=3)


def test_devices_of_the_mapping_can_be_named():
    two = jax.devices()[2:]
    assert list(parallel.placement("data", devices=two).examples.mesh.devices.flat) == two
    assert parallel.Devices("fsdp").placement(shapes(), two).examples.mesh.size == 2
    absent = Mock(spec=jax.Device, memory_stats=Mock(side_effect=jax.errors.JaxRuntimeError))
    assert parallel._memory([absent]) == float("inf")  # of a topology description
