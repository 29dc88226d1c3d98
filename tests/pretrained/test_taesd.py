"""TAESD from a folder: equal to the published layers in torch on the same weights."""

import numpy as np
import published_taesd
import pytest
from conftest import Lazy, assert_close

from jaxflow.pretrained import autoencoders

torch = Lazy("torch")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of random weights, and the twin that has them."""
    folder = tmp_path_factory.mktemp("taef2") / "weights"
    return folder, published_taesd.write(folder, latents=6, pooled=True)


def channels_first(array):
    return torch.tensor(np.moveaxis(np.asarray(array), -1, 1))


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


@pytest.mark.requirement("R58")
def test_it_encodes_and_decodes_as_published(published):
    folder, twin = published
    autoencoder = autoencoders.load(folder)
    latents = autoencoder.encode(IMAGES)
    expected = channels_last(twin["encoder"](channels_first(IMAGES).float() / 255))
    assert latents.shape == (2, 3, 2, 6)
    assert_close(latents, expected, 1e-4)
    levels = 255 * channels_last(twin["decoder"](channels_first(latents)))
    decoded = np.asarray(autoencoder.decode(latents))
    assert (decoded.shape, decoded.dtype) == (IMAGES.shape, np.uint8)
    assert np.abs(decoded - levels.clip(0, 255)).max() < 0.51
