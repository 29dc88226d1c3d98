from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close
from flax import linen
from halving import Halving

from jaxflow.spaces import Autoencoder
from jaxflow.spaces.tiles import tiled


class Blurred(Halving):
    """Each latent and each pixel sees its neighbours; and if `normed`, the whole image."""

    normed: bool = False

    def setup(self):
        super().setup()
        self.seeing, self.painting = linen.Conv(4, (3, 3)), linen.Conv(1, (3, 3))

    def encode(self, images):
        latents = self.seeing(super().encode(images))
        return latents / jnp.std(latents, axis=(1, 2), keepdims=True) if self.normed else latents

    def decode(self, latents):
        return self.painting(super().decode(latents))


def autoencoder(**options):
    network = Blurred(**options)
    return Autoencoder(network, network.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"])


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 22, 34, 1), dtype=np.uint8)


@pytest.mark.parametrize("tile", [2, 8, 12, 40])
def test_tiles_equal_the_whole_where_the_margin_holds_the_receptive_field(tile):
    of = autoencoder()
    latents = of.encode(IMAGES)
    assert_close(of.encode(IMAGES, tile=tile, margin=2), latents, 1e-5)
    whole = of.decode(latents).astype(int)
    assert_close(of.decode(latents, tile=max(1, tile // 2), margin=1).astype(int), whole, 0)


def test_without_a_margin_or_with_a_norm_of_the_whole_image_they_differ():
    of, normed = autoencoder(), autoencoder(normed=True)
    bare = of.encode(IMAGES, tile=8, margin=0) - of.encode(IMAGES)
    inside = np.asarray(bare)[:, 1:3, 1:3]  # a tile of 4 latents differs at its border only
    assert_close(inside, np.zeros_like(inside), 1e-5)
    assert np.abs(bare).max() > 0.1
    assert np.abs(normed.encode(IMAGES, tile=8, margin=2) - normed.encode(IMAGES)).max() > 1e-3


def test_all_tiles_have_one_shape():
    shapes = []

    def seen(x):
        shapes.append(x.shape)
        return x

    assert_close(tiled(seen, jnp.asarray(IMAGES), tile=6, margin=2, scale=1), jnp.asarray(IMAGES), 0)
    assert set(shapes) == {(2, 10, 10, 1)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tile": 5, "margin": 2}, "tile = 5: must be a multiple of 2"),
        ({"tile": 4, "margin": 1}, "margin = 1: must be a multiple of 2"),
        ({"tile": 0, "margin": 2}, "tile = 0, margin = 2: must be at least 1"),
    ],
)
def test_tiles_that_do_not_fit_are_rejected(options, says):
    with pytest.raises(ValueError, match=says):
        tiled(lambda x: x, jnp.asarray(IMAGES), scale=Fraction(1, 2), **options)
