"""How `fit` uses the batches it gets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close

from jaxflow import training
from jaxflow.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("standard_promotion")


def objective(params, key, batch):
    return (batch["x"] - params["mean"][None]) ** 2


def init(key):
    return {"mean": jnp.zeros(())}


def numbers(n=8):
    return {"x": np.full(n, 3.0, np.float32)}


def fit(out, batches, steps=4):
    options = {"optimizer": OPTIMIZER, "seed": 0, "steps": steps, "ema_decay": 0.0, "checkpoint_every": 1000}
    return training.fit(objective, init, batches, out=out, **options)


OPTIMIZER = optax.sgd(0.5)


def test_numpy_arrays_are_batches(tmp_path):
    state = fit(tmp_path, lambda start: iter([numbers()] * 4))
    assert_close(state.ema["mean"], jnp.array(3.0), 1e-6)
    # A finished training reads no batch.
    assert int(fit(tmp_path, lambda start: iter([])).step) == 4


def test_the_steps_before_the_batches_end_are_saved(tmp_path):
    with pytest.raises(ValueError, match="batches end after step 3, which is saved: expected steps = 4"):
        fit(tmp_path, lambda start: iter([numbers()] * 3))
    assert Checkpoints(tmp_path / "checkpoints").steps == [3]
    assert int(fit(tmp_path, lambda start: iter([numbers()] * (4 - start))).step) == 4


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "yields no batch"),
        ([{}], r"arrays of lengths \[\]: expected one leading axis"),
        ([{"x": np.zeros((), np.float32)}], r"arrays of lengths \[0\]"),
        ([numbers(0)], r"arrays of lengths \[0\]"),
        ([{"x": np.zeros(2), "y": np.zeros(3)}], r"arrays of lengths \[2, 3\]"),
        ([numbers(), numbers(4)], "batch of step 2 is .*float32 .4,.*: expected .*float32 .8,"),
    ],
)
def test_invalid_batches_are_named(tmp_path, batches, says):
    with pytest.raises(ValueError, match=says):
        fit(tmp_path, lambda start: iter(batches))


def test_numpy_arrays_are_sharded_over_devices(tmp_path):
    from jaxflow.devices import parallel

    placement = parallel.placement("data")
    state = training.fit(
        *(objective, init, lambda start: iter([numbers()] * 2)),
        **{"optimizer": OPTIMIZER, "seed": 0, "steps": 2, "out": tmp_path, "placement": placement},
    )
    assert_close(jax.device_get(state.params["mean"]), np.float32(3.0), 1e-6)
