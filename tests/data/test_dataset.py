"""The user's own arrays and sources as data sets."""

import grain
import jax
import numpy as np
import pytest

from jaxflow.data.batches import batches, load
from jaxflow.data.codecs import ONE_CLASS, Captions, Classes
from jaxflow.data.dataset import Dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([0, 1, 1, 0, 2, 1])
TEXTS = ["a cat", "a dog", "a dog", "a cat", "a red cow", "a dog"]


def test_arrays_with_labels():
    dataset = Dataset.from_arrays(IMAGES, LABELS)
    assert (len(dataset), dataset.image_shape, dataset.codec) == (6, (4, 5, 3), Classes(("0", "1", "2")))
    everything = load(dataset)
    np.testing.assert_array_equal(everything["image"], IMAGES)
    np.testing.assert_array_equal(everything["y"], LABELS)
    named = Dataset.from_arrays(IMAGES, LABELS.tolist(), names=["cat", "dog", "cow", "hen"])
    assert named.codec == Classes(("cat", "dog", "cow", "hen"))


def test_arrays_with_captions():
    dataset = Dataset.from_arrays(IMAGES, captions=TEXTS)
    assert dataset.codec == Captions(("a", "dog", "cat", "cow", "red"), 3)
    np.testing.assert_array_equal(load(dataset)["y"], [dataset.codec.encode(text) for text in TEXTS])
    test = Dataset.from_arrays(IMAGES[:1], captions=["a blue cat"])
    read = Dataset.from_source(test.source, dataset.codec)
    assert load(read)["y"].tolist() == [[2, 1, 4]]


def test_arrays_of_which_nothing_is_said_are_of_one_class():
    dataset = Dataset.from_arrays(IMAGES)
    assert dataset.codec == ONE_CLASS
    assert not load(dataset)["y"].any()


def test_grey_images_get_a_channel():
    dataset = Dataset.from_arrays(IMAGES[..., 0])
    assert dataset.image_shape == (4, 5, 1)
    np.testing.assert_array_equal(load(dataset)["image"], IMAGES[..., :1])


@pytest.mark.parametrize("resident", [True, False])
def test_batches_of_arrays(resident):
    dataset = Dataset.from_arrays(IMAGES, LABELS)
    batch = next(batches(dataset, seed=0, batch_size=6, resident=resident))
    assert {"image", "y", "number"} == set(batch)
    assert batch["number"].tolist() == [*range(6)]
    pairs = {
        (bytes(np.asarray(image)), int(label))
        for image, label in zip(batch["image"], batch["y"], strict=True)
    }
    assert pairs == {(bytes(image), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)}


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES.astype(float), r"float64: uint8 of 0 to 255 is needed; images.round\(\).astype\('uint8'\)"),
        (IMAGES / 255, r"from \[0, 1\] by np.round\(255 \* images\).astype\('uint8'\)"),
        (IMAGES / 127.5 - 1, r"from \[-1, 1\] by np.round\(127.5 \* images \+ 127.5\).astype\('uint8'\)"),
        (IMAGES > 99, r"images are bool.*; 255 \* images.astype\('uint8'\)"),
        (IMAGES.astype(int) * 9, "images are int64.*, and these are 0 to 2"),
        (np.full((1, 2, 2), np.nan), "images are float64.*, and these are nan to nan"),
        (IMAGES[:0], r"the shape \(0, 4, 5, 3\): one image at least is needed"),
        (IMAGES.transpose(0, 3, 1, 2), r"the shape \(6, 3, 4, 5\): .*; channels come last, images.tr"),
        (np.zeros((2, 8, 8, 9), np.uint8), r"\(2, 8, 8, 9\): .* c from 1 to 4, or \(n, h, w\)$"),
        (np.zeros((2, 8, 8, 3, 1), np.uint8), r"\(2, 8, 8, 3, 1\): .*\(n, h, w, c\)"),
    ],
)  # fmt: skip
def test_images_of_another_form_are_refused_with_the_remedy(images, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_arrays(images)


@pytest.mark.parametrize("unit", [1, 255, 127.5])
def test_the_remedy_for_floats_is_right(unit):
    """What the message says to write gives the grey levels back."""
    images = IMAGES / unit - (unit == 127.5)
    with pytest.raises(ValueError, match="images are float64") as refused:
        Dataset.from_arrays(images)
    remedy = str(refused.value).split("; ")[1].split(" by ")[-1]
    np.testing.assert_array_equal(eval(remedy), IMAGES)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"labels": LABELS[:5]}, r"labels have the shape \(5,\): a number for each image is needed, \(6,\)"),
        ({"labels": LABELS[:, None]}, r"labels have the shape \(6, 1\): a number for each image"),
        ({"labels": LABELS / 2}, "labels are float64: numbers of classes are needed, from 0; names, la"),
        ({"labels": np.array(TEXTS)}, "labels are <U9: numbers of classes are needed, from 0; names, labels"),
        ({"labels": LABELS - 1}, r"labels\[0\] = -1: the classes are 0 to 1"),
        ({"labels": LABELS, "names": ["a", "b"]}, r"labels\[4\] = 2: the classes are 0 to 1"),
        ({"labels": LABELS, "names": ["a", "b", "a"]}, "names: 'a' is there twice"),
        ({"labels": LABELS * 10**9}, r"labels\[4\] = 2000000000: there are 6 images; give the names"),
        ({"names": ["a"]}, "names are those of classes, and there are no labels"),
        ({"labels": LABELS, "captions": TEXTS}, "labels and captions are both given"),
        ({"captions": TEXTS[:5]}, "captions = 5 texts: a list of 6 texts is needed"),
        ({"captions": "a cat."}, "captions = 'a cat.': a list of 6 texts is needed"),
        ({"captions": [*TEXTS[:5], " "]}, r"captions\[5\] = ' ': a text that says something is needed"),
    ],
)  # fmt: skip
def test_what_is_said_in_another_form_is_refused(said, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_arrays(IMAGES, **said)


def examples():
    return [{"image": image, "label": label} for image, label in zip(IMAGES, LABELS.tolist(), strict=True)]


class AtOnce:
    """A source that is only asked for many examples at once."""

    def __len__(self):
        return 6

    def __getitems__(self, positions):
        return [examples()[position] for position in positions]


@pytest.mark.parametrize(
    "source",
    [examples(), AtOnce(), grain.MapDataset.source(examples())],
    ids=["list", "many at once", "grain"],
)
@pytest.mark.parametrize("resident", [True, False])
def test_any_source_at_random_access_is_a_data_set(source, resident):
    dataset = Dataset.from_source(source, Classes(("cat", "dog", "cow")))
    assert (len(dataset), dataset.image_shape) == (6, (4, 5, 3))
    one, other = (
        next(batches(data, seed=3, batch_size=4, resident=resident))
        for data in (dataset, Dataset.from_arrays(IMAGES, LABELS))
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "source has no example"),
        ([3], r"source\[0\] is int: a dictionary with an 'image' is needed"),
        ([{"picture": 0}], r"source\[0\] is \['picture'\]: a dictionary with an 'image' is needed"),
        ([{"image": np.zeros((2, 2), np.uint8)}], r"image of source\[0\] is uint8 \(2, 2\): uint8 \(h, w"),
        ([{"image": np.zeros((2, 2, 3))}], r"image of source\[0\] is float64 \(2, 2, 3\): uint8"),
    ],
)  # fmt: skip
def test_a_source_of_no_images_is_refused(source, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_source(source, ONE_CLASS)
