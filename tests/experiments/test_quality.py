import dataclasses
import tracemalloc

import numpy as np
import pytest
from conftest import assert_close

from experiments import evaluate
from experiments.report import comparison, quality
from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.devices import mesh
from jaxflow.pretrained.extractors import Extractor


@dataclasses.dataclass
class Judge:
    """Sees the class of an image in its mean, and four pixels as features."""

    trained_on: np.ndarray

    def outputs(self, images):
        brightness = images.mean(axis=(1, 2, 3)) / 128 - 1
        logits = 9 * np.stack([-brightness, brightness], axis=1)
        return logits, images.reshape(len(images), -1)[:, :4] / 255.0


@pytest.fixture
def judges(monkeypatch):
    """The judges that are made instead of training them."""
    made = []

    def train(key, images, labels, classes, **_):
        made.append(Judge(images))
        return made[-1]

    monkeypatch.setattr(quality, "train_judge", train)
    return made


def batch(n, seed, y=None):
    """Dark images of class 0 and bright ones of class 1, sorted as in a folder."""
    y = np.sort(np.arange(n) % 2).astype(np.int32) if y is None else y
    noise = np.random.default_rng(seed).integers(0, 100, (n, 4, 4, 1))
    return {"image": (noise + 150 * y[:, None, None, None]).astype(np.uint8), "y": y}


def measure_of(real, labels, **options):
    return quality.Measure(real, labels, seed=0, steps=1, sharding=mesh.on_one_device(), **options)


def test_real_images_get_as_generated_ones_what_they_get_as_real_ones(judges):
    real = quality.Real(batch(400, 0), batch(100, 1))
    labels = quality.labels_of(real, 2, 50)
    measure = measure_of(real, labels)
    drawn = comparison.draw(real.train["y"], real.test["y"], labels)
    order = drawn.real[np.argsort(real.test["y"][drawn.real], kind="stable")]
    as_generated, as_real = measure(real.test["image"][order]), measure.real()
    of_classes = set(sum(evaluate.TABLES, ())) - {"caption", "clip score"}
    assert set(quality.COLUMNS) < of_classes
    assert set(as_real.figures) == set(as_generated.figures) == of_classes
    assert_close(as_generated.figures, as_real.figures, 1e-6)
    assert as_real.figures["accuracy"] == 1.0
    assert as_real.intervals["accuracy"] == (1.0, 1.0)
    assert_close(as_real.figures["entropy"], np.log(2), 1e-12)
    assert 1.9 < as_real.figures["inception"] < 2
    assert measure_of(real, 1 - labels)(real.test["image"][order]).figures["accuracy"] == 0.0
    assert measure.balance == "50 images of each of 2 classes, 100 in all"
    assert measure.counts == {"images_per_class": [50, 50], "real_images_per_class": [50, 50]}


def test_features_of_a_published_network_replace_the_judges(judges):
    """Twice the judge's, so that the Frechet distance is four times as large, and its bases the same."""
    real = quality.Real(batch(400, 0), batch(100, 1))
    labels = quality.labels_of(real, 2, 50)
    doubled = lambda images, sharding: 2 * Judge(images).outputs(images)[1]  # noqa: E731
    doubled.name = "twice"
    plain, other = measure_of(real, labels), measure_of(real, labels, extractor=Extractor(doubled))
    a, b = plain.real().figures, other.real().figures
    assert_close({"frechet": b.pop("frechet") / a.pop("frechet")}, {"frechet": 4.0}, 1e-6)
    assert_close(b.pop("diversity") / a.pop("diversity"), 2.0, 1e-6)
    assert a.pop("kernel") != b.pop("kernel")
    assert_close(b, a, 1e-9)
    assert (plain.features, other.features) == (None, "twice")


def test_the_judge_never_sees_an_image_it_compares(judges):
    real = quality.Real(batch(400, 0), batch(100, 1))
    labels = quality.labels_of(real, 2, 50)
    measure_of(real, labels)
    drawn = comparison.draw(real.train["y"], real.test["y"], labels)
    seen = {image.tobytes() for image in judges[0].trained_on}
    assert len(seen) == 200
    assert not seen & {image.tobytes() for image in real.train["image"][drawn.reference]}


@pytest.mark.parametrize(
    ("counts", "expected"), [((90, 10), (36, 4)), ((99, 1), (39, 1)), ((50, 50), (20, 20))]
)
def test_labels_have_the_frequencies_of_real_images(counts, expected):
    test = batch(100, 1, y=np.repeat(np.arange(2, dtype=np.int32), counts))
    train = batch(400, 0, y=np.repeat(np.arange(2, dtype=np.int32), [4 * count for count in counts]))
    labels = quality.labels_of(quality.Real(train, test), 2, 20)
    assert np.bincount(labels).tolist() == list(expected)


def test_too_few_images_to_compare_are_rejected():
    dark = lambda n: batch(n, 0, y=np.zeros(n, np.int32))  # noqa: E731
    with pytest.raises(ValueError, match="generated images: 1, must be at least 2"):
        quality.labels_of(quality.Real(dark(400), dark(100)), 1, 1)


def test_with_nothing_held_out_the_judge_alone_has_not_seen_what_is_compared(judges):
    images = batch(300, 0)
    dataset = Dataset.from_arrays(images["image"], images["y"], names=("dark", "bright"))
    opened = []

    def split(name):
        opened.append(name)
        return dataset

    real = quality.read(split, held_out=False)
    assert opened == ["train"]
    assert isinstance(dataset.codec, Classes)
    assert (len(real.train["y"]), len(real.test["y"])) == (270, 30)
    assert np.bincount(real.test["y"]).tolist() == [15, 15]
    measure = measure_of(real, quality.labels_of(real, 2, 20))
    assert measure.label == "training"
    assert "hold_out = 0" in measure.warnings[0]


def test_memory_grows_by_less_than_four_bytes_for_each_byte_of_the_images(judges, monkeypatch):
    """Of what NumPy allocates, over and above the images themselves."""
    monkeypatch.setattr(comparison, "MOST_REAL", 100)

    def peak(n):
        y = (np.arange(n) % 2).astype(np.int32)
        images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
        real = quality.Real({"image": images, "y": y}, {"image": images[:100], "y": y[:100]})
        labels = np.tile(np.arange(2, dtype=np.int32), 20)
        tracemalloc.start()
        measure_of(real, labels).real()
        try:
            return tracemalloc.get_traced_memory()[1], images.nbytes
        finally:
            tracemalloc.stop()

    (small, few), (large, many) = peak(1500), peak(4500)
    assert (large - small) / (many - few) < 3
