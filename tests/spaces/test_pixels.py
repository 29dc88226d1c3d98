import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close

from jaxflow import spaces

LEVELS = np.arange(256, dtype=np.uint8).reshape(2, 8, 8, 2)
SPACE = spaces.Pixels((8, 8, 2))


def test_every_grey_level_survives_the_round_trip():
    events = SPACE.encode(LEVELS)
    assert events.shape == (2, *SPACE.event_shape)
    assert (events.dtype, events.min(), events.max()) == (jnp.float32, -1, 1)
    assert_close(events, LEVELS / 127.5 - 1, 1e-6)
    assert_close(SPACE.decode(events), jnp.asarray(LEVELS), 0)


def test_values_out_of_range_are_clipped():
    pixel = spaces.Pixels((1, 1, 2))
    assert pixel.decode(jnp.array([-3.0, 3.0]).reshape(1, 1, 1, 2)).ravel().tolist() == [0, 255]


def test_it_passes_through_jit():
    np.testing.assert_array_equal(jax.jit(SPACE.decode)(jax.jit(SPACE.encode)(LEVELS)), LEVELS)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 4, 8, 2)])
def test_images_of_another_shape_are_rejected(shape):
    says = r"have the shape \(2, .*: expected \(b, \*\(8, 8, 2\)\)"
    with pytest.raises(ValueError, match=f"images {says}"):
        SPACE.encode(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=f"events {says}"):
        SPACE.decode(jnp.zeros(shape))


def test_pixels_are_a_space():
    assert isinstance(SPACE, spaces.Space)
