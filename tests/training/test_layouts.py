import jax
import pytest

from jaxflow.training.layouts import over_examples, split


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
