import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal, random_params

from jaxflow import nn
from jaxflow.nn.image_blocks import Down
from jaxflow.spaces.autoencoder import Network

SMALL = {"channels": (8, 8), "blocks": 1, "groups": 4}


def size(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def abstract(network, shape):
    """Shapes of the parameters, of what is encoded and of what is decoded from its means."""

    def both(key, images):
        params = network.init(key, images)
        encoded = network.apply(params, images, method="encode")
        latents = encoded[..., : network.latent_channels]
        return params["params"], encoded, network.apply(params, latents, method="decode")

    return jax.eval_shape(both, jax.random.key(0), jnp.zeros(shape))


def test_stable_diffusion_1_has_83_653_863_parameters():
    network = nn.AutoencoderKL()
    params, encoded, decoded = abstract(network, (1, 64, 48, 3))
    assert size(params) == 83_653_863
    assert (encoded.shape, decoded.shape) == ((1, 8, 6, 8), (1, 64, 48, 3))
    assert size(params["quant_conv"]) + size(params["post_quant_conv"]) == 8 * 9 + 4 * 5


def test_the_tiny_ones_have_the_published_parameters():
    """Of FLUX.2's, the shared files hold 2,677,027 numbers."""
    for options, expected in (({}, 2_445_063), ({"latent_channels": 32, "pooled": True}, 2_677_027)):
        network = nn.AutoencoderTiny(**options)
        params, encoded, decoded = abstract(network, (2, 16, 32, 3))
        assert size(params) == expected
        assert (encoded.shape, decoded.shape) == ((2, 2, 4, network.latent_channels), (2, 16, 32, 3))


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"channels": (4, 8), "quant": False}, 2),
        ({"channels": (4, 8, 8), "variational": False, "image_channels": 1}, 4),
        ({"channels": (4, 4, 4, 8, 8), "attention": False}, 16),
        ({"channels": (8,), "patch": 2, "latent_channels": 7}, 2),
        ({"channels": (8, 8), "patch": 4}, 8),
    ],
)
def test_factors_from_2_to_16(options, factor):
    network = nn.AutoencoderKL(blocks=1, groups=4, **options)
    assert isinstance(network, Network)
    assert network.factor == factor
    shape = (2, 2 * factor, factor, network.image_channels)
    _, encoded, decoded = abstract(network, shape)
    moments = network.latent_channels * (2 if network.variational else 1)
    assert encoded.shape == (2, 2, 1, moments)
    assert decoded.shape == shape


def test_halving_pads_right_and_below_only():
    x, down = normal(1, 6, 4, 3).astype(jnp.float32), Down(8, "strided")
    params = random_params(down, x)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    kernel, bias = (np.asarray(params["conv"][name]) for name in ("kernel", "bias"))
    expected = np.einsum("brschw,hwco->brso", windows, kernel) + bias
    assert_close(down.apply({"params": params}, x), expected.astype(np.float32), 1e-5)


@pytest.mark.parametrize(
    ("network", "shape", "says"),
    [
        (nn.AutoencoderKL(**SMALL), (1, 8, 7, 3), "images of 8 x 7: both sides must be multiples of 2"),
        (nn.AutoencoderTiny(), (1, 12, 8, 3), "images of 12 x 8: both sides must be multiples of 8"),
        (
            nn.AutoencoderKL(groups=5),
            (1, 8, 8, 3),
            "groups = 5: must divide the channels, and 128 is no multiple",
        ),
        (nn.AutoencoderKL(latent_channels=0), (1, 8, 8, 3), "latent_channels = 0"),
    ],
)
def test_what_does_not_fit_is_rejected(network, shape, says):
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))
