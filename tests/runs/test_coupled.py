"""Noise paired with the data of each batch, as a part of the input."""

import dataclasses
from itertools import islice

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close

from experiments.presets import digits, digits_map
from jaxflow import spaces
from jaxflow.data.batches import batches
from jaxflow.data.codecs import Captions, Classes
from jaxflow.data.dataset import Dataset
from jaxflow.devices import mesh
from jaxflow.runs.configuration import check
from jaxflow.runs.coupled import coupled
from jaxflow.runs.objective import objective
from jaxflow.runs.run import Run, new_run

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 2, 2, 1), np.uint8)
LABELS = np.arange(64) % 3


class Constant(linen.Module):
    """A constant output."""

    @linen.compact
    def __call__(self, x, t, y, *, train=False):
        return self.param("value", linen.initializers.constant(0.3), ()) * jnp.ones_like(x)


def run_of(coupling):
    experiment = dataclasses.replace(digits.experiment(), network=Constant(), coupling=coupling)
    return Run(experiment, "", spaces.Pixels((2, 2, 1)), Classes(("a", "b", "c")))


def stream(coupling, start=0, sharding=None, n=1):
    sharding = mesh.on_one_device() if sharding is None else sharding
    found = batches(
        Dataset.from_arrays(IMAGES, LABELS), seed=0, batch_size=16, start=start, sharding=sharding
    )
    return list(islice(coupled(run_of(coupling), found, start, sharding), n))


def distance(noise, batch):
    return float(
        np.sum((np.asarray(noise) - np.asarray(spaces.Pixels((2, 2, 1)).encode(batch["image"]))) ** 2)
    )


def test_the_noise_of_a_batch_is_a_function_of_its_number():
    """Also on other devices."""
    first, second, third = stream("optimal_transport", n=3)
    (resumed,) = stream("optimal_transport", start=2)
    np.testing.assert_array_equal(resumed["noise"], third["noise"])
    np.testing.assert_array_equal(resumed["image"], third["image"])
    (spread,) = stream("optimal_transport", start=2, sharding=mesh.over_examples())
    assert spread["noise"].sharding == mesh.over_examples()
    np.testing.assert_array_equal(spread["noise"], third["noise"])
    assert (np.asarray(first["noise"]) != np.asarray(second["noise"])).all()


def test_the_couplings_permute_the_same_noise_at_less_cost():
    """The closest of all, within the classes, and as drawn."""
    (free,), (within,) = stream("optimal_transport"), stream("optimal_transport_by_class")
    (plain,) = stream("independent")
    assert "noise" not in plain
    one, other = (np.asarray(batch["noise"]).reshape(16, 4) for batch in (free, within))
    np.testing.assert_array_equal(one[np.argsort(one[:, 0])], other[np.argsort(other[:, 0])])
    drawn = np.mean([distance(np.roll(one.reshape(16, 2, 2, 1), k, axis=0), free) for k in range(16)])
    assert distance(free["noise"], free) < distance(within["noise"], within) < drawn


def test_the_loss_is_that_of_the_pairs(standard_promotion):
    """A constant velocity on straight lines, whose target data - noise does not depend on t."""
    run, (batch,) = run_of("optimal_transport"), stream("optimal_transport")
    loss = jax.jit(objective(run))({"value": jnp.array(0.3)}, jax.random.key(5), batch)
    target = run.space.encode(batch["image"]) - batch["noise"]
    assert_close(loss, jnp.mean((0.3 - target) ** 2, axis=(1, 2, 3)), 1e-6)


def test_a_coupling_that_is_impossible_is_rejected():
    of_map = dataclasses.replace(digits_map.experiment(), distill=".", coupling="optimal_transport")
    with pytest.raises(
        ValueError, match="coupling = 'optimal_transport': of fields, and the objective is a map"
    ):
        check(of_map)
    captioned = Dataset.from_arrays(IMAGES[:2], captions=["a cat", "a dog"])
    assert isinstance(captioned.codec, Captions)
    with pytest.raises(ValueError, match="coupling = 'optimal_transport_by_class': the data have captions"):
        new_run(run_of("optimal_transport_by_class").experiment, captioned, None)
