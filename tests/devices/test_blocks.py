import numpy as np
import pytest

from jaxflow.devices import blocks
from jaxflow.devices.mesh import over_examples


@pytest.mark.parametrize("n", [1, 7, 8, 20])
@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_blocks_are_exact_for_a_last_one_that_is_not_full(n, tensor):
    examples = {"a": np.arange(3.0 * n, dtype=np.float32).reshape(n, 3), "i": np.arange(n)}
    seen = []

    def function(block):
        seen.append(block["i"].shape)
        return block["a"].sum(axis=1), block["i"] + 1

    sums, numbers = blocks.in_blocks(function, examples, size=6, sharding=over_examples(tensor=tensor))
    np.testing.assert_array_equal(sums, examples["a"].sum(axis=1))
    assert numbers.tolist() == list(range(1, n + 1))
    assert len(set(seen)) == 1  # one program
    assert seen[0][0] % (4 // tensor) == 0
