import chex
import jax
import jax.numpy as jnp
import optax

from jaxflow.training import parallel
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.step import TrainState, initial_state


def state(step: int) -> TrainState:
    start = initial_state({"w": jnp.arange(8.0) + step}, optax.adam(1e-3))
    return TrainState(jnp.array(step), start.params, {"w": jnp.full(8, -1.0)}, start.optimizer)


def test_restores_every_bit_of_the_newest(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        for step in (3, 7):
            checkpoints.save(state(step))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 7
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(7))
        abstract = jax.eval_shape(lambda: state(0).ema)
        chex.assert_trees_all_equal(checkpoints.restore_ema(abstract), state(7).ema)


def test_restores_onto_other_devices(tmp_path):
    everywhere = parallel.replicated(parallel.over_examples())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(jax.device_put(state(3), jax.devices()[0]))
        restored = checkpoints.restore(jax.device_put(state(0), everywhere))
    assert restored.params["w"].sharding.is_equivalent_to(everywhere, 1)
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state(3)))


def test_keeps_the_newest_two(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step))
    assert sorted(folder.name for folder in tmp_path.iterdir() if folder.is_dir()) == ["2", "3"]
