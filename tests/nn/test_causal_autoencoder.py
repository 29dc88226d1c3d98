from dataclasses import fields
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, compiling_nothing, normal, random_params

from jaxflow import nn
from jaxflow.nn.causal import CausalConvolution
from jaxflow.nn.causal_autoencoder import decode_stream, encode_stream, inflated
from jaxflow.spaces.autoencoder import Network

SMALL = {"blocks": 1, "groups": 2, "latent_channels": 3, "image_channels": 2}
CHANNELS = {1: (4, 4), 2: (4, 4), 4: (4, 4, 4)}


@cache
def trained(time_factor):
    """A network with random parameters, the jitted encoder and decoder, and two clips with their latents."""
    network = nn.CausalAutoencoder(**SMALL, channels=CHANNELS[time_factor], time_factor=time_factor)
    clips = np.asarray(normal(2, 9, 8, 8, 2), np.float32)
    params = random_params(network, clips[:, :1])
    encode, decode = (
        jax.jit(partial(network.apply, {"params": params}, method=name)) for name in ("encode", "decode")
    )
    return network, params, encode, decode, clips, np.asarray(encode(clips))[..., :3]


def frames(clips):
    return clips.reshape(-1, *clips.shape[2:])


def test_the_convolution_is_that_of_xla():
    """With zeros before the first frame, and its gradients."""
    x, layer = normal(2, 5, 6, 4, 3).astype(jnp.float32), CausalConvolution(4, clips=2)
    params = random_params(layer, frames(x))

    def ours(params, x):
        return layer.apply({"params": params}, frames(x)).reshape(2, 5, 6, 4, 4)

    def xla(params, x):
        numbers, pads = ("NDHWC", "DHWIO", "NDHWC"), ((2, 0), (1, 1), (1, 1))
        kernel, bias = params["kernel"], params["bias"]
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), pads, dimension_numbers=numbers)
        return y + bias[None, None, None, None]

    def all_of(f):
        return f(params, x), jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), (0, 1))(params, x)

    assert_close(jax.jit(all_of, static_argnums=0)(ours), jax.jit(all_of, static_argnums=0)(xla), 1e-5)


@pytest.mark.parametrize("time_factor", [1, 2])
def test_inflation_keeps_what_the_autoencoder_does_to_images(time_factor):
    """Of every s-th frame, and so of one; a latent is decoded to s times what it is as an image."""
    options = SMALL | {"channels": CHANNELS[time_factor]}
    image_network, network = (
        nn.AutoencoderKL(**options),
        nn.CausalAutoencoder(**options, time_factor=time_factor),
    )
    clips = np.asarray(normal(1, 5, 8, 8, 2), np.float32)
    images = clips[0, ::time_factor]
    params = random_params(image_network, images)

    @jax.jit
    def of_images(params, images):
        encoded = image_network.apply({"params": params}, images, method="encode")
        return encoded, image_network.apply({"params": params}, encoded[..., :3], method="decode")

    @jax.jit
    def of_clips(params, clips):
        own = {"params": inflated(params, network)}
        encoded = network.apply(own, clips, method="encode")
        return encoded, network.apply(own, encoded[..., :3], method="decode")

    encoded, decoded = (np.asarray(x)[None] for x in of_images(params, images))
    repeated = np.repeat(decoded, time_factor, axis=1)[:, time_factor - 1 :]
    found = of_clips(params, clips)
    assert_close(found[0], encoded, 1e-6)
    assert_close(found[1], repeated, 1e-6 if time_factor == 1 else 1e-5)  # sums of other lengths
    if time_factor > 1:
        alone = of_images(params, images[:1])
        assert_close(of_clips(params, clips[:, :1]), jax.tree.map(lambda x: x[None], alone), 1e-6)


def directions(time_factor):
    """Encoder and decoder: each with an input, another one, and the inputs that output n may see."""
    _, _, encode, decode, clips, latents = trained(time_factor)
    for f, x, seen in (
        (encode, clips, lambda n: time_factor * n + 1),
        (decode, latents, lambda n: -(-n // time_factor) + 1),
    ):
        yield f, np.asarray(x), np.asarray(normal(*x.shape, seed=1), np.float32), seen


@pytest.mark.parametrize("time_factor", [1, 4])
def test_no_bit_depends_on_the_future(time_factor):
    for f, x, other, seen in directions(time_factor):
        y = np.asarray(f(x))
        for n in range(y.shape[1] - 1):
            changed = x.copy()
            changed[:, seen(n) :] = other[:, seen(n) :]
            np.testing.assert_array_equal(f(changed)[:, : n + 1], y[:, : n + 1])
            assert seen(n) == x.shape[1] or np.any(f(changed)[:, -1] != y[:, -1])


def test_derivatives_to_the_future_are_zero():
    """Exactly, forward and reverse; and an output depends on the inputs up to its own."""
    for f, x, other, seen in directions(4):
        y = np.asarray(f(x))
        pushed = jax.jit(lambda dx, f=f, x=x: jax.jvp(f, (x,), (dx,))[1])
        pulled = jax.jit(lambda dy, f=f, x=x: jax.vjp(f, x)[1](dy)[0])
        for n in {0, 1, y.shape[1] - 2}:
            dx, dy = other.copy(), np.zeros_like(y)
            dx[:, : seen(n)] = 0
            dy[:, n] = 1
            tangent, gradient = np.asarray(pushed(dx)), np.asarray(pulled(dy))
            assert not np.any(tangent[:, : n + 1])
            assert np.any(tangent[:, -1]) or not np.any(dx)
            assert not np.any(gradient[:, seen(n) :])
            assert np.all(np.any(gradient[:, : seen(n)], axis=(2, 3, 4)))


def cut(x, lengths):
    """Chunks of x along the frames."""
    ends = np.cumsum([0, *lengths])
    assert ends[-1] == x.shape[1]
    return [x[:, start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize(
    ("time_factor", "chunks"),
    [(1, (3, 3, 3)), (4, (1, 4, 4))],
)
def test_a_stream_is_the_whole(time_factor, chunks):
    network, params, encode, decode, clips, latents = trained(time_factor)
    streamed = list(encode_stream(network, params, cut(clips, chunks)))
    assert [x.shape[1] for x in streamed] == [-(-length // time_factor) for length in chunks]
    assert_close(np.concatenate(streamed, axis=1), encode(clips), 1e-5)
    decoded = list(decode_stream(network, params, cut(latents, [x.shape[1] for x in streamed])))
    assert [x.shape[1] for x in decoded] == list(chunks)
    assert_close(np.concatenate(decoded, axis=1), decode(latents), 1e-5)


def test_a_stream_has_no_end():
    """Each size of chunk is compiled once, chunks come out as they go in, and a layer keeps two frames."""
    network, params, *_, clips, _ = trained(4)
    list(encode_stream(network, params, cut(clips, (1, 4, 4))))
    chunks = iter(cut(np.tile(clips, (1, 5, 1, 1, 1)), (1, *[4] * 11)))
    with compiling_nothing():
        stream = encode_stream(network, params, chunks)
        assert next(stream).shape[1] == 1
        assert next(chunks).shape[1] == 4
        assert len(list(stream)) == 10
    past = jax.eval_shape(
        partial(network.apply, method="encode", mutable=["past"]), {"params": params}, clips
    )
    convolutions = sum(
        path[-1].key == "kernel" and leaf.ndim == 5 for path, leaf in by_path(params["encoder"])
    )
    leaves = jax.tree.leaves(past[1])
    assert len(leaves) == convolutions + 2
    assert {leaf.shape[:2] for leaf in leaves} == {(2, 2)}


def by_path(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (
            {
                "time_factor": 2,
                "channels": (4, 4, 4),
                "variational": False,
                "quant": False,
                "attention": False,
            },
            (2, 7, 8, 12, 2),
        ),
        (
            {
                "time_factor": 4,
                "channels": (4, 4, 8),
                "patch": 2,
                "fold": 2,
                "latent_channels": 8,
                "dtype": "bfloat16",
            },
            (1, 5, 32, 16, 2),
        ),
        ({"time_factor": 1, "channels": (4,)}, (2, 2, 3, 4, 2)),
    ],
)
def test_shapes_and_types(options, shape):
    network = nn.CausalAutoencoder(**SMALL | options)
    assert isinstance(network, Network)
    assert {field.name for field in fields(network)} >= {"time_factor", "image_channels", "latent_channels"}
    b, f, h, w, _ = shape

    def both(key, clips):
        variables = network.init(key, clips)
        assert set(variables) == {"params"}
        encoded = network.apply(variables, clips, method="encode")
        return encoded, network.apply(variables, encoded[..., : network.latent_channels], method="decode")

    encoded, decoded = jax.eval_shape(both, jax.random.key(0), jnp.zeros(shape))
    k, channels = (f - 1) // network.time_factor, network.latent_channels * (1 + network.variational)
    assert encoded.shape == (b, 1 + k, h // network.factor, w // network.factor, channels)
    assert decoded.shape == shape
    assert encoded.dtype == decoded.dtype == jnp.float32


def test_all_parameters_learn():
    """Also from an inflated image autoencoder, in which the layers in time are zero."""
    options = SMALL | {"channels": (4, 4)}
    network, clips = (
        nn.CausalAutoencoder(**options, time_factor=2),
        np.asarray(normal(1, 5, 4, 4, 2), np.float32),
    )
    images = random_params(nn.AutoencoderKL(**options), clips[:, 0])
    loss = lambda params: jnp.sum(network.apply({"params": params}, jnp.asarray(clips)) ** 2)  # noqa: E731
    gradient = jax.jit(jax.grad(loss))
    for params in random_params(network, clips), jax.jit(partial(inflated, network=network))(images):
        assert [path for path, leaf in by_path(gradient(params)) if not np.any(leaf)] == []


@pytest.mark.parametrize(
    ("options", "shape", "says"),
    [
        ({}, (1, 6, 8, 8, 2), r"clips of 6 frames: must have 1 \+ 4 k, such as 5 or 9"),
        ({"time_factor": 2}, (1, 0, 8, 8, 2), r"clips of 0 frames: must have 1 \+ 2 k, such as 1 or 3"),
        ({}, (1, 5, 8, 6, 2), "images of 8 x 6: both sides must be multiples of 4"),
        (
            {"channels": (4, 8)},
            (1, 1, 8, 8, 2),
            "time_factor = 4: needs at least 3 resolutions, and channels has 2",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(options, shape, says):
    network = nn.CausalAutoencoder(**SMALL | {"channels": (4, 4, 4)} | options)
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))


def test_chunks_that_do_not_fit_are_rejected():
    network, params, *_, clips, _ = trained(4)
    stream = encode_stream(network, params, cut(clips, (1, 4, 2, 2)))
    assert [next(stream).shape[1] for _ in range(2)] == [1, 1]
    with pytest.raises(
        ValueError, match="clips of 2 frames: must have 4 k after the first chunk, such as 4 or 8"
    ):
        next(stream)


def test_only_the_same_autoencoder_is_inflated():
    network, *_ = trained(4)
    other = nn.AutoencoderKL(**SMALL | {"channels": (4, 4, 4), "latent_channels": 4})
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes_of(other))
    with pytest.raises(
        ValueError, match=r"decoder/conv_in/kernel: \(3, 3, 4, 4\) in the autoencoder of images"
    ):
        inflated(params, network)


def shapes_of(network):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 2)))["params"]
