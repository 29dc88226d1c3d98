"""Arrays and sources in memory as data sets."""

import tracemalloc

import grain
import jax
import numpy as np
import pytest

from jaxflow.data import batches as batches_module
from jaxflow.data import dataset as dataset_module
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


def test_arrays_without_labels_are_of_one_class():
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
        (IMAGES.astype(float), r"float64: expected uint8 of 0 to 255; images.round\(\).astype\('uint8'\)"),
        (IMAGES / 255, r"from \[0, 1\] by np.round\(255 \* images\).astype\('uint8'\)"),
        (IMAGES / 127.5 - 1, r"from \[-1, 1\] by np.round\(127.5 \* images \+ 127.5\).astype\('uint8'\)"),
        (IMAGES > 99, r"images are bool.*; 255 \* images.astype\('uint8'\)"),
        (IMAGES.astype(int) * 9, "images are int64.*, these are 0 to 2"),
        (np.full((1, 2, 2), np.nan), "images are float64.*, these are nan to nan"),
        (IMAGES[:0], r"the shape \(0, 4, 5, 3\): expected .* at least one image"),
        (IMAGES.transpose(0, 3, 1, 2), r"the shape \(6, 3, 4, 5\): .*; channels come last, images.tr"),
        (np.zeros((2, 8, 8, 9), np.uint8), r"\(2, 8, 8, 9\): .* c from 1 to 4, or .*at least one image$"),
        (np.zeros((2, 8, 8, 3, 1), np.uint8), r"\(2, 8, 8, 3, 1\): .*\(n, h, w, c\)"),
    ],
)  # fmt: skip
def test_images_of_another_form_are_rejected_with_the_remedy(images, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_arrays(images)


@pytest.mark.parametrize("unit", [1, 255, 127.5])
def test_the_remedy_for_floats_is_right(unit):
    """The conversion in the message restores the grey levels."""
    images = IMAGES / unit - (unit == 127.5)
    with pytest.raises(ValueError, match="images are float64") as refused:
        Dataset.from_arrays(images)
    remedy = str(refused.value).split("; ")[1].split(" by ")[-1]
    np.testing.assert_array_equal(eval(remedy), IMAGES)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"labels": LABELS[:5]}, r"labels have the shape \(5,\): expected a number for each image, \(6,\)"),
        ({"labels": LABELS[:, None]}, r"labels have the shape \(6, 1\): expected a number for each image"),
        ({"labels": LABELS / 2}, "labels are float64: expected class numbers, from 0; names, la"),
        ({"labels": np.array(TEXTS)}, "labels are <U9: expected class numbers, from 0; names, labels"),
        ({"labels": LABELS - 1}, r"labels\[0\] = -1: the classes are 0 to 1"),
        ({"labels": LABELS, "names": ["a", "b"]}, r"labels\[4\] = 2: the classes are 0 to 1"),
        ({"labels": LABELS, "names": ["a", "b", "a"]}, "names: 'a' occurs twice"),
        ({"labels": LABELS * 10**9}, r"labels\[4\] = 2000000000, but there are 6 images: pass the names"),
        ({"names": ["a"]}, "names of classes are given without labels"),
        ({"labels": LABELS, "captions": TEXTS}, "labels and captions are both given"),
        ({"captions": TEXTS[:5]}, "captions = 5 texts: expected a list of 6 texts"),
        ({"captions": "a cat."}, "captions = 'a cat.': expected a list of 6 texts"),
        ({"captions": [*TEXTS[:5], " "]}, r"captions\[5\] = ' ': expected a text that is not empty"),
    ],
)  # fmt: skip
def test_labels_and_captions_of_another_form_are_rejected(said, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_arrays(IMAGES, **said)


def examples():
    return [{"image": image, "label": label} for image, label in zip(IMAGES, LABELS.tolist(), strict=True)]


class AtOnce:
    """A source that only reads many examples at once."""

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
        ([], "source is empty"),
        ([3], r"source\[0\] is int: expected a dictionary with an 'image'"),
        ([{"picture": 0}], r"source\[0\] is \['picture'\]: expected a dictionary with an 'image'"),
        ([{"image": np.zeros((2, 2), np.uint8)}], r"image of source\[0\] is uint8 \(2, 2\): expected"),
        ([{"image": np.zeros((2, 2, 3))}], r"image of source\[0\] is float64 \(2, 2, 3\): expected uint8"),
    ],
)  # fmt: skip
def test_a_source_without_images_is_rejected(source, says):
    with pytest.raises(ValueError, match=says):
        Dataset.from_source(source, ONE_CLASS)


def test_the_fingerprint_is_that_of_the_content():
    datasets = [
        Dataset.from_arrays(IMAGES, LABELS),
        Dataset.from_arrays(IMAGES, LABELS, names=["cat", "dog", "cow"]),
        Dataset.from_arrays(IMAGES, LABELS[::-1].copy()),
        Dataset.from_arrays(IMAGES[::-1].copy(), LABELS),
        Dataset.from_arrays(IMAGES ^ (np.arange(IMAGES.size) == 100).reshape(IMAGES.shape), LABELS),
        Dataset.from_arrays(IMAGES[:5], LABELS[:5]),
        Dataset.from_arrays(IMAGES.reshape(6, 5, 4, 3), LABELS),
        Dataset.from_arrays(IMAGES, captions=TEXTS),
        Dataset.from_arrays(IMAGES, captions=[*TEXTS[:5], "a hen"]),
    ]
    assert len({dataset.fingerprint for dataset in datasets}) == len(datasets)
    assert Dataset.from_arrays(IMAGES.copy(), LABELS).fingerprint == datasets[0].fingerprint


def test_the_fingerprint_is_the_same_in_every_process():
    known = "a58b1e08d2a6376935c2cc4cb932f6bceaa8cf6fb7a4b0d9e10a9bc263482507"
    assert Dataset.from_arrays(np.zeros((2, 3, 3), np.uint8), captions=["a", "b"]).fingerprint == known


def test_of_a_large_source_a_thousand_examples_are_hashed(monkeypatch):
    class Large:
        read = 0

        def __len__(self):
            return 10_000

        def __getitem__(self, position):
            self.read += 1
            return {"image": np.full((2, 2, 1), position % 256, np.uint8), "label": 0}

    monkeypatch.setattr(dataset_module, "RESIDENT_BYTES", 1000)
    dataset = Dataset.from_source(source := Large(), ONE_CLASS)
    assert dataset.fingerprint == Dataset.from_source(Large(), ONE_CLASS).fingerprint
    assert source.read == 1001


def test_recoding_matches_classes_by_name():
    dataset = Dataset.from_arrays(IMAGES, LABELS, names=["cat", "cow", "dog"])
    recoded = dataset.recode(Classes(("bird", "dog", "cow", "cat")))
    np.testing.assert_array_equal(load(recoded)["y"], np.array([3, 2, 1])[LABELS])
    assert recoded.notes == ("since the run began: classes removed: 'bird'",)
    assert dataset.recode(dataset.codec) is dataset
    with pytest.raises(ValueError, match=r"^the data have changed, classes added: 'cow': restore them"):
        dataset.recode(Classes(("cat", "dog")))


def test_recoding_reads_captions_by_the_known_words():
    dataset = Dataset.from_arrays(IMAGES, captions=TEXTS)
    known = Captions(("old", "red", "a", "cow", "cat", "dog"), 3)
    np.testing.assert_array_equal(load(dataset.recode(known))["y"], [known.encode(text) for text in TEXTS])
    assert dataset.recode(known).notes == ("since the run began: words removed: 'old'",)
    assert dataset.recode(Captions(dataset.codec.words[::-1], 3)).notes == ()
    with pytest.raises(ValueError, match="words added: 'red': restore"):
        dataset.recode(Captions(("a", "cow", "cat", "dog"), 3))
    with pytest.raises(ValueError, match="captions instead of classes"):
        dataset.recode(ONE_CLASS)


def test_recoding_to_a_full_vocabulary_leaves_further_words_unknown(monkeypatch):
    monkeypatch.setattr(dataset_module, "MOST_WORDS", 4)
    recoded = Dataset.from_arrays(IMAGES, captions=TEXTS).recode(Captions(("a", "cow", "cat", "dog"), 3))
    assert load(recoded)["y"][4].tolist() == [2, 1, 3]


def test_loading_takes_the_memory_of_the_result_and_a_block(monkeypatch):
    class Decoded:
        def __len__(self):
            return 500

        def __getitem__(self, position):
            return {"image": np.full((128, 128, 1), position % 256, np.uint8), "label": 0}

    monkeypatch.setattr(batches_module, "BLOCK", 16)
    dataset = Dataset.from_source(Decoded(), ONE_CLASS)
    tracemalloc.start()
    loaded = load(dataset)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * loaded["image"].nbytes
    np.testing.assert_array_equal(loaded["image"][:, 0, 0, 0], np.arange(500) % 256)
    some = load(dataset, np.array([300, 7]))
    np.testing.assert_array_equal(some["image"], loaded["image"][[300, 7]])
    assert some["y"].shape == (2,)
