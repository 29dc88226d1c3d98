import numpy as np
import pytest
from conftest import assert_close

from experiments.presets import digits
from experiments.report import quality
from jaxflow.devices import layouts
from jaxflow.runs.configuration import fitted
from jaxflow.runs.run import new_run, open_data

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture(scope="module")
def run(data_dir):
    dataset = open_data(digits.experiment(), "train", str(data_dir))
    return new_run(fitted(digits.experiment(), dataset.codec), dataset, str(data_dir))


def test_real_images_get_as_generated_ones_what_they_get_as_real_ones(run):
    real = quality.read(run.open_split, 10)
    labels = real.test["y"]
    measure = quality.Measure(real, labels, seed=0, steps=20, sharding=layouts.over_examples())
    as_generated, as_real = measure(real.test["image"]), measure.real()
    for name in ("accuracy", "frechet", "nearest"):
        assert_close(as_generated[name], as_real[name], 1e-6)
    assert as_generated["precision"] == as_generated["recall"] == 1.0  # of a set beside itself
    wrong = quality.Measure(real, (labels + 1) % 10, seed=0, steps=20, sharding=layouts.over_examples())
    assert 0 <= wrong(real.test["image"])["accuracy"] <= 1 - as_real["accuracy"]


def test_each_class_has_so_many_labels(run):
    labels = quality.labels_of(run.model(None), 3)
    assert np.bincount(labels).tolist() == [3] * 10


def test_too_few_images_to_compare_are_refused(run):
    with pytest.raises(ValueError, match="per_label: 3 images and 359 held-out real ones"):
        quality.read(run.open_split, 3)
