import numpy as np
import pytest

from experiments.benchmarks.decided import from_each, with_word
from jaxflow.data.codecs import Captions
from jaxflow.data.dataset import Dataset
from jaxflow.shapes.alignment import alignment
from jaxflow.shapes.captions import caption
from jaxflow.shapes.scenes import draw, scene
from jaxflow.spaces import Pixels


def test_pictures_are_sampled_from_real_ones_with_the_noise_of_each_time():
    """This one returns the picture from t = 0.5 on, and nothing before: its captions are true from there."""
    images = np.stack([draw(scene(i)) for i in range(4)])
    captions = [caption(scene(i), i) for i in range(4)]
    asked = []

    def sampler(edit):
        asked.append(edit)
        decided = edit is not None and edit.strength <= 0.5
        return Pixels(images.shape[1:]).decode(edit.data) if decided else np.zeros_like(images)

    drawn = from_each((0, 0.25, 0.5, 1), Pixels(images.shape[1:]), images, sampler)
    assert [getattr(edit, "strength", None) for edit in asked] == [None, 0.75, 0.5]
    assert [alignment(np.asarray(each), captions)["all"] for each in drawn] == [0, 0, 1, 1]


def test_captions_are_chosen_by_a_whole_word():
    captions = ["a red circle", "A Small, red circle", "a smallish cross", "a cross above a small square"]
    examples = [{"caption": caption} for caption in captions]
    dataset = Dataset(examples, (32, 32, 3), Captions(("a",), 8))
    assert list(with_word(dataset, None)) == [0, 1, 2, 3]
    assert with_word(dataset, "small") == [1, 3]
    with pytest.raises(ValueError, match="containing = 'blue': no caption"):
        with_word(dataset, "blue")
