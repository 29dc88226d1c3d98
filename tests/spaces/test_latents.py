import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close
from halving import halving

from jaxflow import spaces
from jaxflow.spaces import Latents


def space(**options):
    return Latents((4, 6, 1), halving(**options), (0.5, 0.0, -1.0, 0.0), (2.0, 1.0, 0.5, 1.0), "")


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 1), dtype=np.uint8)


@pytest.mark.requirement("R62")
def test_images_pass_into_the_space_and_back():
    of = space()
    assert isinstance(of, spaces.Space)
    events = of.encode(IMAGES)
    assert events.shape == (3, *of.event_shape) == (3, 2, 3, 4)
    assert_close(of.decode(events), jnp.asarray(IMAGES), 0)


def test_events_are_centred_and_scaled():
    of = space()
    latents = np.asarray(of.autoencoder.encode(IMAGES))
    expected = (latents - np.array([0.5, 0, -1, 0])) / np.array([2, 1, 0.5, 1])
    assert_close(of.encode(IMAGES), expected.astype(np.float32), 1e-6)
    assert_close(of.events(latents), of.encode(IMAGES), 1e-6)


@pytest.mark.requirement("R63")
def test_each_key_draws_latents_from_stored_moments():
    of = space(variational=True)
    stored = of.autoencoder.moments(IMAGES)
    assert stored.shape == (3, 2, 3, 8)
    keys = jax.random.split(jax.random.key(0), 3)
    first, again, second = (of.events(stored, each) for each in (keys, keys, jax.random.key(5)))
    assert_close(first, again, 0)
    assert not np.allclose(first, second)
    noise = np.asarray(first - of.events(stored)) * np.array([2, 1, 0.5, 1], np.float32)  # of deviation 1 / e
    assert 0.5 < np.std(noise) * np.e < 1.5
    assert_close(of.events(stored), of.encode(IMAGES), 1e-6)


@pytest.mark.requirement("R56")
def test_no_gradient_reaches_the_autoencoder():
    """The loss sees stored moments; the weights are no part of it."""
    of = space()
    stored = of.autoencoder.moments(IMAGES)
    without = dataclasses.replace(of, autoencoder=dataclasses.replace(of.autoencoder, params=None))
    assert_close(without.events(stored), of.events(stored), 0)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((4, 5, 1), "images are 4 x 5: the autoencoder needs multiples of 2"), ((4, 4, 3), "have 3 channels")],
)
def test_images_that_it_does_not_take_are_rejected(shape, says):
    with pytest.raises(ValueError, match=says):
        halving().encode(np.zeros((1, *shape), np.uint8))
    with pytest.raises(ValueError, match=says):
        Latents(shape, halving(), (0.0,) * 4, (1.0,) * 4, "")


def test_latents_of_another_autoencoder_are_rejected():
    with pytest.raises(ValueError, match="latents have 3 channels: the autoencoder's have 4"):
        halving().decode(np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match="mean has 1 numbers: expected one for each of 4 channels"):
        Latents((4, 4, 1), halving(), (0.0,), (1.0,) * 4, "")
