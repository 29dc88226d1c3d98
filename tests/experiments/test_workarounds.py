import jax
import pytest

from experiments.benchmarks import workarounds


@pytest.mark.parametrize("case", workarounds.CASES.values(), ids=workarounds.CASES.keys())
def test_both_functions_of_a_case_have_the_same_shape_and_type(case):
    arrays = [jax.ShapeDtypeStruct(shape, case.dtype) for shape in case.shapes]
    ours, plain = (jax.eval_shape(function, *arrays) for function in (case.ours, case.plain))
    assert (ours.shape, ours.dtype) == (plain.shape, plain.dtype)
