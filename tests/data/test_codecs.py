import unicodedata

import numpy as np
import pytest

from jaxflow.data.codecs import Captions, Classes, Codec, difference, stack, vocabulary_of
from jaxflow.data.words import split

CLASSES = Classes(("cat", "dog"))
CAPTIONS = Captions(("a", "red", "circle"), 4)


@pytest.mark.parametrize("codec", [CLASSES, CAPTIONS], ids=["classes", "captions"])
def test_they_are_codecs(codec):
    assert isinstance(codec, Codec)


@pytest.mark.requirement("R34")
def test_no_example_has_the_null_condition():
    assert int(CLASSES.null) not in [int(CLASSES.of({"label": i})) for i in range(2)]
    assert not CAPTIONS.null.any()
    assert CAPTIONS.of({"caption": "?"}).any()


def test_a_class_goes_by_its_number_or_name():
    for label in (1, np.int64(1), "dog"):
        y = CLASSES.encode(label)
        assert (y.shape, y.dtype, y) == ((), np.int32, 1)
    # Of names that are numbers the name counts.
    assert Classes(("7", "3")).encode("3") == 1


@pytest.mark.parametrize(("label", "shown"), [("cow", "'cow'"), ("1", "'1'"), (2, "2"), (-1, "-1")])
def test_an_unknown_class_is_rejected_with_the_known_ones(label, shown):
    with pytest.raises(ValueError, match=f"^label = {shown}: the classes are 0 cat, 1 dog$"):
        CLASSES.encode(label)


def test_of_many_classes_the_first_are_listed():
    with pytest.raises(ValueError, match=r"label = 1000: the classes are 0, 1, .*, 39, \.\.\.$"):
        Classes(tuple(map(str, range(1000)))).encode(1000)


def test_captions_are_numbers_of_words():
    assert CAPTIONS.of({"caption": "A red  circle"}).tolist() == [2, 3, 4, 0]
    assert CAPTIONS.of({"caption": "a red circle"}).tolist() == [2, 3, 4, 0]
    assert CAPTIONS.of({"caption": "a blue circle, red"}).tolist() == [2, 1, 4, 1]  # unknown; and cut
    assert CAPTIONS.vocabulary == 5


def test_a_prompt_is_rejected_where_a_caption_is_cut():
    assert CAPTIONS.encode("red circle").tolist() == [3, 4, 0, 0]
    np.testing.assert_array_equal(CAPTIONS.encode(""), CAPTIONS.null)
    with pytest.raises(ValueError, match="no caption has the word 'blue'; the words are a, red, circle"):
        CAPTIONS.encode("a blue circle")
    with pytest.raises(ValueError, match="must be at most 4 words; remove 'circle red'"):
        CAPTIONS.encode("a red a red circle red")
    with pytest.raises(ValueError, match="prompt = 3: expected a text, such as 'a red circle'"):
        CAPTIONS.encode(3)


def test_vocabulary_has_the_most_frequent_words_first():
    captions = vocabulary_of(["b a", "b c", "b a, d"], most_words=3)
    assert captions == Captions(("b", "a", ","), 4)


def test_words_and_signs():
    assert split("Größe 3: it's") == ["größe", "3", ":", "it", "'", "s"]


def test_accents_are_the_same_composed_and_decomposed():
    words = vocabulary_of(["ein Café"])
    np.testing.assert_array_equal(
        words.encode(unicodedata.normalize("NFD", "ein Café")), words.encode("ein Café")
    )


@pytest.mark.parametrize(
    ("captions", "prompt"),
    [(("红色的猫", "蓝色的狗"), "红色的狗"), (("赤い車と犬", "青い車と猫"), "青い車と犬")],
    ids=["Chinese", "Japanese"],
)
def test_scripts_without_spaces_are_read_by_their_letters(captions, prompt):
    assert len(set(vocabulary_of(captions).encode(prompt).tolist()) - {0}) == len(prompt)


@pytest.mark.parametrize(
    ("text", "words"), [("हिन्दी में", 2), ("قِطَّةٌ حَمْرَاءُ", 2), ("แมวสี", 4)], ids=["Hindi", "Arabic", "Thai"]
)
def test_marks_belong_to_their_letters(text, words):
    assert len(split(text)) == words
    assert "".join(split(text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (unicodedata.normalize("NFD", "고양이 한 마리"), ["고양이", "한", "마리"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("བོད་སྐད་ཡིག", ["བོད", "སྐད", "ཡིག"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
        ("\uff32\uff25\uff24\u3000cat\uff0c\uff76\uff9e", ["red", "cat", ",", "ガ"]),
        ("👨‍👩‍👧 👍🏽 ❤️‍🔥 1️⃣", ["👨‍👩‍👧", "👍🏽", "❤️‍🔥", "1️⃣"]),
        ("🇩🇪🇫🇷 🏴\U000e0067\U000e0062\U000e007f", ["🇩🇪", "🇫🇷", "🏴\U000e0067\U000e0062\U000e007f"]),
        ("co\u00adoperate \u202ered\u200bcat", ["cooperate", "red", "cat"]),
        ("\u0301 it\u2019s", ["it", "\u2019", "s"]),
    ],
    ids=["Korean", "Hebrew", "Tibetan", "Khmer", "wide", "emoji", "flags", "invisible", "stray"],
)
def test_words_of_other_scripts(text, words):
    assert split(text) == [unicodedata.normalize("NFC", word) for word in words]


def test_messages_stay_short_whatever_is_given():
    words = Captions(tuple(f"word{i}" * 50 for i in range(100)), 4)
    classes = Classes(tuple(f"name{i}" * 60 for i in range(100)))
    for codec, given in (
        (words, "x" * 5000),
        (words, "x" * 10**6),
        (classes, "x\n" * 10**6),
        (classes, 10**30),
    ):
        with pytest.raises(ValueError, match=r"prompt|label") as caught:
            codec.encode(given)
        assert len(str(caught.value)) < 900
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (CLASSES, Classes(("cat", "cow")), "classes added: 'cow'; removed: 'dog'"),
        (CLASSES, Classes(("dog", "cat")), "the classes are in another order"),
        (CAPTIONS, Captions(("a", "red", "square"), 4), "words added: 'square'; removed: 'circle'"),
        (CAPTIONS, Captions(("a", "red"), 4), "words removed: 'circle'"),
        (CAPTIONS, Captions(("a", "red", "circle"), 5), "captions of up to 5 words, not 4"),
        (CAPTIONS, Captions(("red", "a", "circle"), 4), "other frequencies of words"),
        (CAPTIONS, CLASSES, "classes instead of captions"),
        (CLASSES, Classes(CLASSES.names), None),
    ],
)
def test_difference_of_codecs(old, new, says):
    assert difference(old, new) == says


def test_a_long_difference_is_short():
    many = [Captions(tuple(f"{k}{i}" * 30 for i in range(2000)), 4) for k in "ab"]
    assert len(difference(*many)) < 350


def test_stacking_keeps_the_structure():
    one = {"tokens": np.zeros((2, 3)), "label": np.int32(4)}
    both = stack([one, one])
    assert both["tokens"].shape == (2, 2, 3)
    assert both["label"].tolist() == [4, 4]
