import numpy as np
import pytest

from jaxflow.data.conditions import Captions, Classes, split, stack, vocabulary_of

CAPTIONS = Captions(("a", "red", "circle"), 4)


@pytest.mark.requirement("R34")
def test_null_is_no_condition_of_an_example():
    classes = Classes(("cat", "dog"))
    assert int(classes.null) not in [int(classes.of({"label": i})) for i in range(2)]
    assert not CAPTIONS.null.any()
    assert CAPTIONS.of({"caption": "?"}).any()


def test_captions_are_numbers_of_words():
    assert CAPTIONS.of({"caption": "A red  circle"}).tolist() == [2, 3, 4, 0]
    assert CAPTIONS.of({"caption": "a red circle"}).tolist() == [2, 3, 4, 0]
    assert CAPTIONS.encode("a blue circle, red").tolist() == [2, 1, 4, 1]  # unknown; and cut
    assert CAPTIONS.vocabulary == 5


def test_a_prompt_is_refused_where_a_caption_is_cut():
    CAPTIONS.check("red circle")
    with pytest.raises(ValueError, match="no caption has the word 'blue'; there are a, red, circle"):
        CAPTIONS.check("a blue circle")
    with pytest.raises(ValueError, match="at most 4 words are read; 'circle red' is too much"):
        CAPTIONS.check("a red a red circle red")


def test_vocabulary_has_the_most_frequent_words_first():
    captions = vocabulary_of(["b a", "b c", "b a, d"], most_words=3)
    assert captions == Captions(("b", "a", ","), 4)


def test_words_and_signs():
    assert split("Größe 3: it's") == ["größe", "3", ":", "it", "'", "s"]


def test_stacking_keeps_the_structure():
    one = {"tokens": np.zeros((2, 3)), "label": np.int32(4)}
    both = stack([one, one])
    assert both["tokens"].shape == (2, 2, 3)
    assert both["label"].tolist() == [4, 4]
