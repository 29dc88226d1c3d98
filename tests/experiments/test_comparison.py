"""A perfect generator gets what real images get, whatever the order, classes and sizes of the sets."""

import numpy as np
import pytest

from experiments.report import comparison, quality
from experiments.report.comparison import Comparison, Seen
from jaxflow.data.dataset import Dataset

DIMENSIONS = 6


@pytest.fixture(autouse=True)
def _rough_intervals(monkeypatch):
    """No figure depends on them."""
    monkeypatch.setattr(comparison, "RESAMPLES", 10)
    monkeypatch.setattr(comparison, "GROUPS", 2)


FIGURES = ("frechet", "frechet pixels", "precision", "recall", "density", "coverage", "nearest")


def images_of(labels, generator):
    """8 x 2 pixels around the mean of their class."""
    means = np.random.default_rng(99).uniform(40, 215, (10, 8, 2, 1))
    noise = generator.normal(0, 15, (len(labels), 8, 2, 1))
    return np.clip(means[labels] + noise, 0, 255).astype(np.uint8)


def features_of(images):
    """A fixed random projection."""
    projection = np.random.default_rng(98).standard_normal((images[0].size, DIMENSIONS)) / 40
    return images.reshape(len(images), -1) @ projection


def seen(images):
    return Seen(images, features_of(images))


def measured(counts, per_label, seed, broken=lambda images: images):
    """Figures of a perfect generator and of real images, `counts` of each class, a tenth held out."""
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    images = images_of(y, generator)
    test = generator.random(len(y)) < 0.1
    train = {"image": images[~test], "y": y[~test].astype(np.int32)}
    real = quality.Real(train, {"image": images[test], "y": y[test].astype(np.int32)})
    labels = quality.labels_of(real, len(counts), per_label)
    drawn = comparison.draw(real.train["y"], real.test["y"], labels)
    compare = Comparison(
        train["image"],
        seen(train["image"][drawn.reference]),
        seen(real.test["image"][drawn.real]),
        labels,
    )
    return compare(seen(broken(images_of(labels, generator)))).figures, compare.real().figures, compare


IMBALANCES = {
    "sorted folder": ((700, 700), 10),
    "0.9 and 0.1": ((1800, 200), 100),
    "0.99 and 0.01": ((1980, 20), 100),
    "five classes": ((1000, 500, 300, 180, 20), 50),
    "many images": ((800, 700), 500),
}


@pytest.mark.parametrize(("counts", "per_label"), IMBALANCES.values(), ids=IMBALANCES)
def test_a_perfect_generator_gets_what_real_images_get(counts, per_label):
    """Over ten seeds; single ones may differ by chance."""
    pairs = [measured(counts, per_label, seed)[:2] for seed in range(10)]
    for name in FIGURES:
        perfect, real = (np.array([pair[i][name] for pair in pairs]) for i in (0, 1))
        if name in ("precision", "recall", "density", "coverage"):
            assert abs(perfect.mean() - real.mean()) < 0.06, name
        else:
            assert 0.75 < perfect.mean() / real.mean() < 1.33, name
            assert np.all(perfect < 3 * real), name


def test_more_training_images_than_are_compared_still_have_all_classes(monkeypatch):
    monkeypatch.setattr(comparison, "MOST_REAL", 300)
    perfect, real, _ = measured((1400, 1400), 100, seed=0)
    assert perfect["frechet"] < 2 * real["frechet"] + 0.1
    assert perfect["precision"] > 0.8


def test_a_generator_of_one_class_or_of_noise_is_seen():
    perfect, _, _ = measured((900, 100), 100, seed=0)
    one_class = lambda images: images[:1].repeat(len(images), axis=0)  # noqa: E731
    noise = lambda images: np.random.default_rng(1).integers(0, 256, images.shape, np.uint8)  # noqa: E731
    collapsed, _, _ = measured((900, 100), 100, seed=0, broken=one_class)
    noisy, _, _ = measured((900, 100), 100, seed=0, broken=noise)
    for diverse in ("recall", "coverage"):
        assert collapsed[diverse] < 0.1 < perfect[diverse]
    for plausible in ("precision", "density"):
        assert noisy[plausible] < 0.2 < perfect[plausible]
    for worse in (collapsed, noisy):
        assert worse["kernel"] > 10 * abs(perfect["kernel"])
        assert worse["frechet"] > 3 * perfect["frechet"]
        assert worse["frechet pixels"] > 3 * perfect["frechet pixels"]


def test_equal_sizes_make_distances_comparable():
    """More generated images change the noise of the figures, not their mean."""
    few = [measured((1000, 1000), 100, seed)[0]["frechet"] for seed in range(8)]
    many = [measured((1000, 1000), 1000, seed)[0]["frechet"] for seed in range(8)]
    assert np.mean(many) == pytest.approx(np.mean(few), rel=0.35)


def test_a_memorised_image_is_found_among_all_training_images(monkeypatch):
    monkeypatch.setattr(comparison, "MOST_REAL", 20)
    train = images_of(np.zeros(500, int), np.random.default_rng(0))
    compare = Comparison(train, seen(train[:20]), seen(train[20:40]), np.zeros(50, int))
    assert compare(seen(train[450:])).figures["nearest"] == 0


def test_each_figure_has_an_interval_around_it(monkeypatch):
    """But the distance in pixels, whose 64 dimensions and more would take long."""
    *_, compare = measured((1000, 1000), 200, seed=0)
    monkeypatch.setattr(comparison, "RESAMPLES", 100)
    monkeypatch.setattr(comparison, "GROUPS", 20)
    labels = np.repeat([0, 1], 200)
    figures, intervals = compare(seen(images_of(labels, np.random.default_rng(1))))
    assert set(figures) - set(intervals) == {"frechet pixels"}
    for name, interval in intervals.items():
        assert interval.low <= figures[name] <= interval.high, name
        assert interval.low < interval.high, name


def test_few_images_are_warned_of():
    *_, few = measured((150, 150), 10, seed=0)
    *_, enough = measured((1500, 1500), 100, seed=0)
    (text,) = few.warnings(held_out=True)
    assert text.startswith("precision, recall, density and coverage of")
    assert enough.warnings(held_out=True) == []
    (text,) = enough.warnings(held_out=False)
    assert "--hold-out" in text
    wide = Seen(np.zeros((90, 2, 2, 1), np.uint8), np.random.default_rng(0).standard_normal((90, 100)))
    (text,) = Comparison(wide.images, wide, wide, np.zeros(90, int)).warnings(held_out=True)
    assert text.startswith("frechet of 90 images in 100 dimensions")


def test_a_judge_that_learns_nothing_is_warned_of():
    *_, compare = measured((1500, 1500), 100, seed=0)
    (text,) = compare.warnings(held_out=True, learned=False)
    assert "random network" in text


def test_of_a_large_data_set_a_random_sample_is_read(monkeypatch):
    dataset = Dataset.from_arrays(np.zeros((1000, 2, 2, 1), np.uint8), np.repeat([0, 1], 500))
    assert comparison.positions_in(dataset).tolist() == list(range(1000))
    monkeypatch.setattr(comparison, "MOST_BYTES", 400)
    positions = comparison.positions_in(dataset)
    assert len(set(positions)) == len(positions) == 100
    assert (np.diff(positions) > 0).all()
    assert 25 < (positions < 500).sum() < 75


@pytest.mark.parametrize(("train", "test", "generated"), [(100, 100, 1), (100, 1, 100), (3, 100, 100)])
def test_too_few_images_are_rejected(train, test, generated):
    with pytest.raises(
        ValueError, match=r"(generated|held-out real|reference).* images: 1, must be at least 2"
    ):
        comparison.draw(*(np.zeros(n, int) for n in (train, test, generated)))


def test_two_held_out_images_are_compared_with_a_warning():
    rng = np.random.default_rng(0)
    train, real = (images_of(np.zeros(n, int), rng) for n in (40, 2))
    compare = Comparison(train, seen(train[:20]), seen(real), np.zeros(30, int))
    assert all(np.isfinite([*compare.real().figures.values()]))
    assert "precision, recall, density and coverage of 2 images" in compare.warnings(held_out=True)[0]
