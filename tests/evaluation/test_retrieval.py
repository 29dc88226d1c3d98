import numpy as np
import pytest

from jaxflow.evaluation.retrieval import nearest


def test_the_nearest_are_those_of_all_distances():
    random = np.random.default_rng(0)
    generated, pictures = random.standard_normal((300, 7)), random.standard_normal((90, 7))
    distances = np.linalg.norm(generated[:, None] - pictures, axis=-1)
    np.testing.assert_array_equal(nearest(generated, pictures, 5), np.argsort(distances, axis=1)[:, :5])


def test_there_must_be_as_many_pictures():
    with pytest.raises(ValueError, match="k = 3: must be at most 2, the number of pictures"):
        nearest(np.zeros((1, 2)), np.ones((2, 2)), 3)
