import numpy as np

from jaxflow.data.dataset import Dataset
from jaxflow.data.mapped import Mapped
from jaxflow.data.resized import resized

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
DATA = Dataset.from_arrays(IMAGES, captions=[f"number {i}" for i in range(5)])


def test_each_example_is_changed_one_by_one_in_blocks_and_in_a_loop():
    changed = Mapped(DATA.source, lambda i, example: {**example, "twice": 2 * i})
    assert [example["twice"] for example in changed] == [0, 2, 4, 6, 8]
    assert [example["twice"] for example in changed.__getitems__([3, 1])] == [6, 2]
    assert changed[4]["caption"] == "number 4"


def test_resized_images_are_those_of_the_same_captions():
    small = resized(DATA, 4)
    assert (small.image_shape, len(small)) == ((4, 4, 3), 5)
    assert [example["caption"] for example in small.source] == [f"number {i}" for i in range(5)]
    assert small.fingerprint != DATA.fingerprint
    means = [example["image"].mean() for example in small.examples(range(5))]
    np.testing.assert_allclose(means, IMAGES.mean(axis=(1, 2, 3)), atol=10)
    assert resized(DATA, 8) is DATA
