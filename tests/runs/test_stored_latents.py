from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import assert_close
from halving import halving

from jaxflow.data.batches import batches, load
from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.data.mapped import Mapped
from jaxflow.runs import latents

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(300) % 3


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("variational", [False, True])
def test_channels_have_mean_0_and_variance_1_over_the_data(variational):
    dataset, autoencoder = Dataset.from_arrays(IMAGES, LABELS), halving(variational=variational)
    space = latents.space_of(dataset, autoencoder)
    stored = load(latents.with_moments(dataset, autoencoder))[space.entry]
    draws = [space.events(stored, jax.random.key(i)) for i in range(20)]
    events = np.concatenate(draws).reshape(-1, 4)
    assert_close(events.mean(axis=0), np.zeros(4), 0.02)
    assert_close(events.std(axis=0), np.ones(4), 0.02)


def test_the_scale_may_be_the_published_one():
    dataset, autoencoder = Dataset.from_arrays(IMAGES, LABELS), halving()
    with pytest.raises(ValueError, match=r"has no config\.json with scaling_factor"):
        latents.space_of(dataset, autoencoder, "published")
    space = latents.space_of(dataset, replace(autoencoder, published=((0.5,) * 4, (4.0,) * 4)), "published")
    assert (space.mean, space.deviation) == ((0.5,) * 4, (4.0,) * 4)
    assert_close(space.encode(IMAGES), (autoencoder.encode(IMAGES) - 0.5) / 4, 1e-6)


@pytest.mark.requirement("R63")
def test_moments_are_computed_once_and_stay_with_their_labels(monkeypatch):
    dataset, autoencoder = Dataset.from_arrays(IMAGES, LABELS), halving(variational=True)
    stored = load(latents.with_moments(dataset, autoencoder))
    assert_close(stored["moments"].astype(np.float32), np.asarray(autoencoder.moments(IMAGES)), 2e-3)
    np.testing.assert_array_equal(stored["y"], LABELS)
    monkeypatch.setattr(type(autoencoder), "moments", None)  # is not called again
    again = latents.with_moments(dataset, autoencoder)
    batch = next(batches(again, seed=0, batch_size=8))
    assert batch["moments"].shape == (8, 2, 2, 8)
    assert again.fingerprint == dataset.fingerprint


def test_other_data_or_another_autoencoder_have_moments_of_their_own():
    dataset, autoencoder = Dataset.from_arrays(IMAGES, LABELS), halving()
    first = load(latents.with_moments(dataset, autoencoder))["moments"]
    other_images = load(latents.with_moments(Dataset.from_arrays(255 - IMAGES, LABELS), autoencoder))
    other_weights = load(latents.with_moments(dataset, halving(seed=1)))
    for other in (other_images, other_weights):
        assert not np.allclose(first, other["moments"])


def test_captions_are_kept():
    captions = [f"number {i}" for i in range(300)]
    dataset = latents.with_moments(Dataset.from_arrays(IMAGES, captions=captions), halving())
    assert [example["caption"] for example in dataset.examples([7, 299])] == ["number 7", "number 299"]


def test_what_is_said_of_an_image_may_be_changed_above_and_below_the_cache():
    """Embeddings of captions, and classes in the order of an older run, also once moments are cached."""
    captioned = Dataset.from_arrays(IMAGES, captions=[f"number {i}" for i in range(300)])
    with_text = replace(captioned, source=Mapped(captioned.source, lambda i, e: {**e, "text": 2 * i}))
    (example,) = latents.with_moments(with_text, halving()).examples([7])
    assert (example["caption"], example["text"]) == ("number 7", 14)
    assert example["moments"].shape == (2, 2, 4)
    labelled = Dataset.from_arrays(IMAGES, LABELS, names=("a", "b", "c"))
    np.testing.assert_array_equal(load(latents.with_moments(labelled, halving()))["y"], LABELS)
    recoded = labelled.recode(Classes(("c", "b", "a", "d")))
    np.testing.assert_array_equal(load(latents.with_moments(recoded, halving()))["y"], 2 - LABELS)


def test_latents_that_overflow_are_rejected():
    huge = halving()
    huge.params["basis"] *= 1e6
    with pytest.raises(ValueError, match=r"its latents of images 0 to 256 overflow float16"):
        latents.with_moments(Dataset.from_arrays(IMAGES, LABELS), huge)
