import jax.numpy as jnp
from conftest import assert_close

from jaxflow.data.images import to_float, to_uint8


def test_every_grey_level_survives_the_way_in_and_out():
    levels = jnp.arange(256).astype(jnp.uint8)
    values = to_float(levels)
    assert values.min() == -1
    assert values.max() == 1
    assert_close(to_uint8(values), levels, 0)


def test_beyond_the_range_is_clipped():
    assert to_uint8(jnp.array([-3.0, 3.0])).tolist() == [0, 255]
