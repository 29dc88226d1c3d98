import itertools
import sys

import jax
import numpy as np
import pytest
from conftest import Lazy

from jaxflow.data.batches import batches, load, order
from jaxflow.data.datasets import data_directory, open_dataset

datasets = Lazy("sklearn.datasets")


@pytest.fixture
def digits(data_dir):
    return open_dataset("digits", "train", data_dir)


def test_digits_are_the_real_ones(data_dir):
    held_out = load(open_dataset("digits", "test", data_dir))
    train = load(open_dataset("digits", "train", data_dir))
    assert len(train["image"]) == 1438
    assert len(held_out["image"]) == 359
    real = datasets.load_digits()

    def as_set(images, labels):
        return {(bytes(image), int(label)) for image, label in zip(images, labels, strict=True)}

    levels = np.round(real.images * (255 / 16)).astype(np.uint8)
    ours = as_set(np.asarray(train["image"]), train["y"]) | as_set(
        np.asarray(held_out["image"]), held_out["y"]
    )
    assert ours == as_set(levels, real.target)


def test_no_image_is_in_both_splits(data_dir):
    train, test = (
        {bytes(image) for image in np.asarray(load(open_dataset("digits", split, data_dir))["image"])}
        for split in ("train", "test")
    )
    assert not train & test


def test_resident_and_streamed_batches_are_the_same(digits):
    options = {"seed": 3, "batch_size": 48, "start": 28}  # an epoch ends in batch 29
    both = [batches(digits, resident=resident, **options) for resident in (True, False)]
    for one, other in itertools.islice(zip(*both, strict=True), 3):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["y"], other["y"])


def test_batch_n_is_a_function_of_seed_and_n(digits):
    options = {"batch_size": 48, "resident": False}
    from_start = list(itertools.islice(batches(digits, seed=3, **options), 5))
    later = next(batches(digits, seed=3, start=4, **options))
    np.testing.assert_array_equal(from_start[4]["image"], later["image"])
    other = next(batches(digits, seed=4, start=4, **options))
    assert not np.array_equal(later["image"], other["image"])


def test_each_epoch_has_each_example_once_in_a_new_order():
    first, second = ([int(i) for n in range(4 * k, 4 * k + 4) for i in order(100, 0, 25)[n]] for k in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second


@pytest.mark.requirement("R26")
def test_images_stay_with_their_labels(digits):
    everything = load(digits)
    label_of = dict(zip(map(bytes, np.asarray(everything["image"])), everything["y"].tolist(), strict=True))
    batch = next(batches(digits, seed=0, batch_size=256, resident=False))
    assert [label_of[bytes(image)] for image in np.asarray(batch["image"])] == batch["y"].tolist()


@pytest.mark.requirement("R26")
def test_a_sharded_batch_is_the_same(digits):
    mesh = jax.make_mesh((4,), ("examples",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("examples"))
    expected = next(batches(digits, seed=0, batch_size=64, resident=False))["image"]
    for resident in (True, False):
        sharded = next(batches(digits, seed=0, batch_size=64, sharding=sharding, resident=resident))
        assert sharded["image"].sharding.is_equivalent_to(sharding, 4)
        np.testing.assert_array_equal(sharded["image"], expected)


def test_a_missing_data_set_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"'mnist' is not in .*--data-dir.*jaxflow.data.prepare mnist"
    ):
        open_dataset("mnist", "train", str(tmp_path))


def test_an_unknown_split_is_rejected(data_dir):
    with pytest.raises(ValueError, match=r"no split 'validation': it has (test, train|train, test)"):
        open_dataset("digits", "validation", data_dir)


@pytest.mark.parametrize(("batch_size", "seed"), [(0, 0), (2000, 0), (8, -1)])
def test_impossible_batches_are_rejected(digits, batch_size, seed):
    with pytest.raises(ValueError, match=r"batch_size = |seed = "):
        batches(digits, seed=seed, batch_size=batch_size)


def test_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data_directory() == tmp_path
    assert data_directory("elsewhere").name == "elsewhere"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data_directory().name == "tensorflow_datasets"


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_an_empty_data_dir_is_rejected(name):
    with pytest.raises(ValueError, match="data_dir is empty"):
        open_dataset(name, "train", "")


def test_options_of_folders_are_rejected_for_other_data_sets(data_dir):
    for options in ({"image_size": 32}, {"hold_out": 0.2}, {"hold_out": 0}):
        with pytest.raises(ValueError, match=r"(image_size|hold_out) = .*only .*folder"):
            open_dataset("digits", "train", data_dir, **options)


def test_batches_of_one(digits):
    streams = (batches(digits, seed=0, batch_size=1, start=start, resident=False) for start in (0, 3))
    first, later = streams
    images = [np.asarray(next(first)["image"]) for _ in range(4)]
    assert images[0].shape == (1, 8, 8, 1)
    np.testing.assert_array_equal(next(later)["image"], images[3])


def test_the_fingerprint_of_a_prepared_data_set_is_its_identity(digits, data_dir):
    again, test, part = (
        open_dataset("digits", split, data_dir) for split in ("train", "test", "train[:90%]")
    )
    assert again.fingerprint == digits.fingerprint
    assert len({digits.fingerprint, test.fingerprint, part.fingerprint}) == 3


def test_digits_without_their_package_are_an_error_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.delitem(sys.modules, "jaxflow.data.digits", raising=False)
    with pytest.raises(OSError, match=r"'digits' needs sklearn.datasets, .*: pip install"):
        open_dataset("digits", "train", tmp_path)
