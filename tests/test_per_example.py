import inspect

import jax
import pytest
from conftest import assert_close

from jaxflow import per_example

unchecked = inspect.unwrap(per_example.keys)  # without the check of its annotations


def test_the_key_of_an_example_does_not_depend_on_the_batch():
    key = jax.random.key(0)
    few, many = (jax.random.key_data(per_example.keys(key, n)) for n in (3, 8))
    assert_close(few, many[:3], 0)


def test_keys_of_the_wrong_number_or_type_are_rejected():
    with pytest.raises(ValueError, match="3 keys for 2 examples"):
        unchecked(jax.random.split(jax.random.key(0), 3), 2)
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        unchecked(jax.random.PRNGKey(0), 2)
