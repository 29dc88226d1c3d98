"""Examples on which a device would compute wrong numbers without an error."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxflow.data.batches import batches
from jaxflow.data.checks import stack_checked
from jaxflow.data.codecs import Captions, Classes
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import open_dataset
from jaxflow.data.prepared import Prepared

SHAPE = (4, 4, 1)
POSITIONS = np.array([40, 7, 12])
CLASSES = Dataset(None, SHAPE, Classes(tuple("0123456789")))
CAPTIONS = Dataset(None, SHAPE, Captions(("a", "circle"), 3))


def image(shape=SHAPE, dtype=np.uint8):
    return np.ones(shape, dtype)


def labelled(**odd):
    """Three examples, the second of which, example 7 of the data set, is the odd one."""
    return [{"image": image(), "label": 9} | (odd if i == 1 else {}) for i in range(3)]


class Text(NamedTuple):
    tokens: np.ndarray
    mask: np.ndarray


class Embedded:
    """As of a frozen text encoder."""

    null = Text(np.zeros((2, 5), np.float32), np.ones(2, bool))

    def of(self, example):
        return example["text"]

    def encode(self, said):
        raise NotImplementedError


def embedded(value, shape=(2, 5)):
    texts = [Text(np.ones((2, 5), np.float32), np.ones(2, bool))] * 3
    tokens = np.ones(shape, np.float32)
    tokens[1, 3] = value
    texts[1] = texts[1]._replace(tokens=tokens)
    return [{"image": image(), "text": text} for text in texts]


def test_examples_become_a_batch():
    batch = stack_checked(CLASSES, POSITIONS, labelled(label=0))
    np.testing.assert_array_equal(batch["y"], np.array([9, 0, 9], np.int32))
    assert batch["image"].shape == (3, *SHAPE)
    captioned = [{"image": image(), "caption": text} for text in ("a circle", "", "a square a circle a")]
    np.testing.assert_array_equal(
        stack_checked(CAPTIONS, POSITIONS, captioned)["y"], [[2, 3, 0], [0, 0, 0], [2, 1, 2]]
    )
    texts = stack_checked(Dataset(None, SHAPE, Embedded()), POSITIONS, embedded(1.0))["y"]
    assert texts.tokens.shape == (3, 2, 5)


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (
            {"image": image((4, 5, 1))},
            r"image of example 7 is uint8 \(4, 5, 1\): expected uint8 \(4, 4, 1\)",
        ),
        ({"image": image((4, 4))}, r"image of example 7 is uint8 \(4, 4\): expected uint8 \(4, 4, 1\)"),
        ({"image": image((4, 4, 3))}, r"image of example 7 is uint8 \(4, 4, 3\): expected uint8 \(4, 4, 1\)"),
        (
            {"image": image(dtype=np.float32)},
            r"image of example 7 is float32 \(4, 4, 1\): expected uint8 \(4, 4, 1\)",
        ),
        (
            {"image": image(dtype=np.uint16)},
            r"image of example 7 is uint16 \(4, 4, 1\): expected uint8 \(4, 4, 1\)",
        ),
        ({"label": 10}, "example 7 cannot be used: label = 10: the classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ({"label": -1}, "example 7 cannot be used: label = -1: the classes are 0"),
        ({"label": 2**32 + 3}, "example 7 cannot be used: label = 4294967299: the classes are 0"),
        ({"label": np.int64(2**32)}, "example 7 cannot be used: label = 4294967296: the classes are 0"),
        ({"label": 1.7}, r"example 7 cannot be used: label = 1\.7: the classes are 0"),
        ({"label": np.array([3])}, r"y of example 7 is int32 \(1,\): expected int32 \(\)"),
    ],
)
def test_the_odd_example_is_named(odd, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        stack_checked(CLASSES, POSITIONS, labelled(**odd))


def test_images_that_all_have_another_shape_are_rejected():
    with pytest.raises(
        ValueError, match=r"^image of example 40 is uint8 \(5, 5, 1\): expected uint8 \(4, 4, 1\)"
    ):
        stack_checked(CLASSES, POSITIONS, [{"image": image((5, 5, 1)), "label": 0}] * 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_are_finite(value):
    says = rf"^y.tokens of example 7 is {value} at \(1, 3\): must be finite"
    with pytest.raises(ValueError, match=says):
        stack_checked(Dataset(None, SHAPE, Embedded()), POSITIONS, embedded(value))


def test_embeddings_have_the_shape_of_null():
    says = r"^y.tokens of example 7 is float32 \(3, 5\): expected float32 \(2, 5\)"
    with pytest.raises(ValueError, match=says):
        stack_checked(Dataset(None, SHAPE, Embedded()), POSITIONS, embedded(1.0, (3, 5)))


class Mislabelled:
    """Eight examples, the sixth of an unknown class."""

    def __len__(self):
        return 8

    def __getitems__(self, positions):
        return [{"image": image(), "label": 10 if position == 5 else 0} for position in positions]


@pytest.mark.parametrize("resident", [True, False])
def test_batches_are_checked_and_name_the_position_in_the_data_set(resident):
    dataset = Dataset(Mislabelled(), SHAPE, CLASSES.codec)
    with pytest.raises(ValueError, match="example 5 cannot be used: label = 10: the classes are 0, 1"):
        next(batches(dataset, seed=0, batch_size=8, resident=resident))


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ({"image": image()}, "example 40 has no 'label', only image"),
        ({"label": 3}, "example 40 has no 'image', only label"),
        (None, "example 40 cannot be used: 'NoneType'"),
    ],
)
def test_an_example_without_its_parts_is_named(example, says):
    with pytest.raises(ValueError, match=says):
        stack_checked(CLASSES, POSITIONS[:1], [example])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_data_set_of_other_than_uint8_is_not_opened(dtype, tmp_path, data_dir):
    open_dataset("digits", "train", data_dir)
    shutil.copytree(Path(data_dir) / "digits", tmp_path / "digits")
    features = next(tmp_path.glob("digits/*/features.json"))
    features.write_text(features.read_text().replace("uint8", dtype))
    with pytest.raises(ValueError, match=f"'digits' has images of {dtype}: expected uint8"):
        open_dataset("digits", "train", tmp_path)


class Broken:
    """Files whose third example is damaged."""

    def __len__(self):
        return 5

    def __getitems__(self, positions):
        if 2 in positions:
            raise RuntimeError("hash mismatch")
        return [{"label": position, "caption": b"a circle"} for position in positions]


def test_an_example_that_cannot_be_read_is_named():
    source = Prepared(Broken(), "data set 'digits' in DIR")
    assert source.__getitems__([4, 0]) == [{"label": n, "caption": "a circle"} for n in (4, 0)]
    says = "example 2 of data set 'digits' in DIR cannot be read, hash mismatch: prepare it again"
    for read in (lambda: source.__getitems__([4, 2, 0]), lambda: source[2], lambda: list(source)):
        with pytest.raises(OSError, match=says):
            read()
