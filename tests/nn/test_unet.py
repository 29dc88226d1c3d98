import itertools
import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, normal, random_params
from flax import linen

from jaxflow import nn
from jaxflow.nn.attributes import names_of
from jaxflow.nn.conditioning import Encoded
from jaxflow.nn.image_blocks import AttentionBlock, Down, GroupNorm, ResidualBlock, UNetBlock, Up
from jaxflow.nn.inflation import inflated
from jaxflow.nn.unet import Decoder, Encoder, Head, Midcoder, unet_32, unet_64, unet_256

KEY = jax.random.key(0)
X, T, Y = normal(2, 4, 4, 1), jnp.array([0.1, 0.9]), jnp.array([0, 3])
WORDS = jnp.array([[1, 2, 0], [0, 0, 0]])
"""Two captions, one of them empty."""
TEXT = nn.TextEncoder(5, width=8, depth=1, heads=2)
SMALL = {"channels": (4, 8), "blocks": 1, "width": 8, "heads": 2}


def unet(encode=None, **options):
    return nn.UNet(encode=encode or nn.ClassTable(4), **{**SMALL, **options})


def shapes(network, x=X, t=T, y=Y):
    return jax.eval_shape(network.init, KEY, x, t, y)["params"]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


OPTIONS = {name: values for name, values in names_of(nn.UNet).items() if name != "attention_implementation"}


def all_pairs(options):
    """Few combinations in which every pair of values of two options occurs, chosen greedily."""
    pairs = lambda values: set(itertools.combinations(zip(options, values, strict=True), 2))  # noqa: E731
    every = {values: pairs(values) for values in itertools.product(*options.values())}
    missing = set().union(*every.values())
    while missing:
        values = max(every, key=lambda values: len(every[values] & missing))
        missing -= every[values]
        yield dict(zip(options, values, strict=True))


@pytest.mark.requirement("R51")
@pytest.mark.parametrize("options", all_pairs(OPTIONS), ids=lambda options: "-".join(options.values()))
def test_all_options_build_with_the_shape_and_type_of_x(options):
    network = unet(**options)
    out, variables = jax.eval_shape(network.init_with_output, KEY, X, T, Y)
    assert (out.shape, out.dtype) == (X.shape, X.dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


VARIED = {
    "pools": {"down": "average", "up": "bilinear", "skips": "add", "modulation": "pointwise"},
    "text": {
        "encode": TEXT,
        "cross_attention": (False, True),
        "down": "max",
        "up": "transposed",
        "modulated": "midcoder",
        "time": "fourier",
        "remat": True,
    },
}


@pytest.mark.requirement("R51")
@pytest.mark.parametrize("options", VARIED.values(), ids=VARIED.keys())
def test_zero_at_first_and_a_gradient_for_every_parameter(options):
    network, y = unet(**options), WORDS if "encode" in options else Y

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradients(params):
        out = network.apply({"params": params}, X, T, y)
        return jnp.sum((out - 1) ** 2), out

    params = random_params(network, X, T, y)
    # Only the last layer of the initialisation is compiled: XLA eliminates the rest.
    last = jax.jit(lambda key: network.init(key, X, T, y)["params"]["head"])(KEY)
    assert_close(gradients({**params, "head": last})[1], jnp.zeros_like(X), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(params)[0]):
        name = jax.tree_util.keystr(path)
        if "'key'" not in name or "bias" not in name:  # what all keys share does not change a softmax
            assert np.asarray(leaf).any(), name


@pytest.mark.requirement("R51")
def test_remat_changes_neither_parameters_nor_values():
    plain, again = unet(), unet(remat=True)
    assert shapes(plain) == shapes(again)
    params = random_params(plain, X, T, Y)
    a, b = (jax.jit(network.apply)({"params": params}, X, T, Y) for network in (plain, again))
    assert_close(a, b, 1e-5)


@pytest.mark.requirement("R54")
def test_tokens_that_are_masked_have_no_influence():
    block = AttentionBlock(heads=2)
    x, tokens = normal(2, 2, 2, 4), normal(2, 3, 5, seed=1)
    mask = jnp.array([[True, False, True], [False, True, False]])
    params = random_params(block, x, tokens, mask, size=0.5)

    @jax.jit
    def influence(tokens):
        return jax.jacobian(lambda tokens: block.apply({"params": params}, x, tokens, mask))(tokens)

    of_token = jnp.abs(influence(tokens)).max(axis=(1, 2, 3, 6))  # (example, example, token)
    for i in range(2):
        assert_close(jnp.where(mask[i], 0, of_token[i, i]), jnp.zeros(3), 0)
        assert_close(of_token[i, 1 - i], jnp.zeros(3), 0)
    assert float(of_token[0, 0][mask[0]].min()) > 1e-4


@pytest.mark.requirement("R51")
def test_attention_depends_on_positions_only_if_requested():
    """Without positions attention commutes with flipping the rows of the image."""
    x = normal(1, 4, 4, 8)

    def difference(positions):
        block = AttentionBlock(heads=2, positions=positions)
        params = random_params(block, x, size=0.5)
        call = jax.jit(lambda x: block.apply({"params": params}, x))
        return float(jnp.abs(call(x[:, ::-1])[:, ::-1] - call(x)).max())

    assert_below(difference(positions=False), 1e-5)
    assert difference(positions=True) > 0.01


class AsGiven(linen.Module):
    """y is tokens and their mask, passed through unchanged."""

    @linen.compact
    def __call__(self, y, width):
        return Encoded(None, *y)


@pytest.mark.requirement("R54")
def test_each_condition_reaches_its_example_and_no_other():
    """Through t and the unmasked tokens; masked tokens have exactly no influence."""
    mask = jnp.array([[True, True, False], [True, False, False]])
    tokens = normal(2, 3, 8, seed=1)
    network = unet(AsGiven(), cross_attention=(False, True), attention=())
    params = random_params(network, X, T, (tokens, mask))

    @jax.jit
    def jacobians(t, tokens):
        f = lambda t, tokens: network.apply({"params": params}, X, t, (tokens, mask))  # noqa: E731
        return jax.jacfwd(f, (0, 1))(t, tokens)

    in_t, in_tokens = (jnp.abs(j) for j in jacobians(T, tokens))
    in_t = in_t.max(axis=(1, 2, 3))
    in_tokens = in_tokens.max(axis=(1, 2, 3, 6))
    for i in range(2):
        assert_close(in_t[i, 1 - i], jnp.zeros(()), 0)
        assert_close(in_tokens[i, 1 - i], jnp.zeros(3), 0)
        assert_close(jnp.where(mask[i], 0, in_tokens[i, i]), jnp.zeros(3), 0)
        assert float(in_t[i, i]) > 1e-6
    assert float(in_tokens[0, 0, :2].min()) > 1e-8


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("modulation", OPTIONS["modulation"])
def test_residual_block_by_hand(modulation):
    """Against NumPy, on an image of one pixel, where only the kernels' centres matter."""
    block = ResidualBlock(4, modulation)
    x, vector = normal(2, 1, 1, 4), normal(2, 3, seed=1)
    variables = {"params": random_params(block, x, vector, size=0.5)}
    p, pixel, e = jax.tree.map(np.asarray, (variables["params"], x[:, 0, 0], vector))

    def silu(v):
        return v / (1 + np.exp(-v))

    def norm(name, v):  # one group of four channels
        deviation = (v - v.mean(axis=-1, keepdims=True)) / np.sqrt(v.var(axis=-1, keepdims=True) + 1e-6)
        return deviation * p[name]["scale"] + p[name]["bias"]

    def conv(name, v):
        return v @ p[name]["kernel"][1, 1] + p[name]["bias"]

    def dense(name, v):
        return v @ p[name]["kernel"] + p[name]["bias"]

    h = conv("conv1", silu(norm("norm1", pixel)))
    if modulation == "pointwise":
        h = norm("norm2", h + dense("modulation_out", silu(dense("modulation_hidden", e))))
    else:
        scale, shift = np.split(dense("modulation", silu(e)), 2, axis=-1)
        h = norm("norm2", h) * (1 + scale) + shift
    assert_close(block.apply(variables, x, vector)[:, 0, 0], pixel + conv("conv2", silu(h)), 1e-4)


@pytest.mark.requirement("R51")
def test_midcoder_only_modulates_nothing_else():
    def modulations(tree):
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        return {name.split("'")[1] for name in names if "'modulation'" in name}

    assert modulations(shapes(unet(modulated="midcoder"))) == {"midcoder"}
    assert modulations(shapes(unet())) == {"encoder", "midcoder", "decoder"}


def test_the_head_is_a_convolution_of_the_normed_image_and_a_linear_map_of_the_image():
    x = 3 + normal(2, 4, 6, 32)
    head = Head(5)
    params = random_params(head, x, size=1.0)
    norm = linen.GroupNorm(num_groups=2).apply({"params": params["norm"]}, x)
    convolved = linen.Conv(5, (3, 3)).apply({"params": params["conv"]}, linen.silu(norm))
    assert_close(head.apply({"params": params}, x), convolved + x @ params["linear"]["kernel"], 1e-3)


@pytest.mark.requirement("R51")
def test_ways_down_and_up():
    x = normal(2, 4, 6, 3)
    windows = (1, 2, 2, 1)
    summed = jax.lax.reduce_window(x, 0.0, jax.lax.add, windows, windows, "VALID")
    assert_close(Down(3, "average").apply({}, x), summed / 4, 1e-6)
    greatest = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, windows, windows, "VALID")
    assert_close(Down(3, "max").apply({}, x), greatest, 0)

    kernel = normal(2, 2, 3, 5, seed=1)
    expected = jax.lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    # A pixel's four copies are stored row by row in the channels; lax flips its kernel.
    transposed = {"conv_transpose": {"kernel": kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(3, 20)}}
    assert_close(Up(5, "transposed").apply({"params": transposed}, x), expected, 1e-5)

    identity = {"conv": {"kernel": jnp.zeros((3, 3, 3, 3)).at[1, 1].set(jnp.eye(3)), "bias": jnp.zeros(3)}}
    for method in ("nearest", "bilinear"):
        enlarged = Up(3, method).apply({"params": identity}, x)
        assert_close(enlarged, jax.image.resize(x, (2, 8, 12, 3), method), 1e-6)


@pytest.mark.parametrize("channels", [1, 6, 20, 32])
def test_group_norm_equals_that_of_linen(channels):
    x = 3 + normal(2, 3, 5, channels)
    size = np.gcd(16, channels)
    ours, theirs = GroupNorm(), linen.GroupNorm(num_groups=None, group_size=size)
    assert shapes_of(ours, x) == shapes_of(theirs, x)

    @jax.jit
    def values_and_gradients(params, x):
        def cubes(params, x, norm):
            out = norm.apply({"params": params}, x)
            return jnp.sum(out**3), out

        return [jax.grad(cubes, (0, 1), has_aux=True)(params, x, norm) for norm in (ours, theirs)]

    (gradients, out), (expected_gradients, expected) = values_and_gradients(random_params(theirs, x), x)
    assert_close(out, expected, 1e-4)
    assert_close(gradients, expected_gradients, 1e-3)


def test_gradient_costs_as_much_in_each_block():
    """At any depth: no block's gradient is recomputed in earlier blocks."""
    x, vector = jnp.zeros((2, 8, 8, 32)), jnp.zeros((2, 16))
    block = ResidualBlock(32)
    params = shapes_of(block, x, vector)

    def squares(blocks):
        return jnp.sum(reduce(lambda h, params: block.apply({"params": params}, h, vector), blocks, x) ** 2)

    def of(depth):
        return jax.jit(jax.grad(squares)).lower(depth * [params]).compile().cost_analysis()

    one, two, three = of(1), of(2), of(3)
    for cost in ("flops", "bytes accessed"):
        assert_below(three[cost] - two[cost], 1.01 * (two[cost] - one[cost]))


def shapes_of(module, *inputs):
    return jax.eval_shape(module.init, KEY, *inputs)["params"]


@pytest.mark.requirement("R51")
def test_walk_of_the_chapter():
    """256 x 256 x 3 -> 32 x 32 x 512 -> 32 x 32 x 512 -> 256 x 256 x 3."""
    network, x = unet_256(nn.ClassTable(10)), jnp.zeros((1, 256, 256, 3))

    def run(key, x):
        parts = lambda module, _: isinstance(module, Encoder | Midcoder | Decoder)  # noqa: E731
        return network.init_with_output(key, x, T[:1], Y[:1], capture_intermediates=parts)

    out, variables = jax.eval_shape(run, KEY, x)
    parts = {name: found["__call__"][0] for name, found in variables["intermediates"].items()}
    assert parts["encoder"][0].shape == (1, 32, 32, 512)
    assert parts["midcoder"].shape == (1, 32, 32, 512)
    assert parts["decoder"].shape == (1, 256, 256, 64)
    assert out.shape == (1, 256, 256, 3)


@pytest.mark.parametrize(("preset", "sides"), [(unet_32, (28, 32)), (unet_64, (64,))])
def test_presets_take_their_sizes_and_options(preset, sides):
    for side in sides:
        x = jnp.zeros((1, side, side, 3))
        out = jax.eval_shape(
            lambda key, x: preset(nn.ClassTable(10)).init_with_output(key, x, T[:1], Y[:1])[0], KEY, x
        )
        assert out.shape == x.shape
    assert preset(nn.ClassTable(10), blocks=1, dropout=0.0).blocks == 1


REFUSED = {
    "image size 6 x 6: must be multiples of 4 for 2 resolutions with patch = 2": {"patch": 2},
    "image size 6 x 6: must be multiples of 4 for 3 resolutions with patch = 1": {
        "channels": (4, 4, 4),
        "attention": (),
    },
    "channels = .6, 8.: must be multiples of 4 for sinusoidal positions": {
        "channels": (6, 8),
        "positions": "sinusoidal",
    },
    "blocks = 0: must be greater than or equal to 1": {"blocks": 0},
    "attention = .True,.: expected one per resolution, 2": {"attention": (True,)},
    "must be False everywhere, since ClassTable outputs no tokens": {"cross_attention": (False, True)},
    "folds = .2, 2.: expected one per downsampling, 1": {"folds": (2, 2)},
    "folds = .2,.: need down = 'patches' and up = 'transposed'": {"folds": (2,)},
    "must be True at some resolution, since AsGiven outputs only tokens": {"encode": AsGiven()},
}


@pytest.mark.parametrize(("message", "options"), REFUSED.items())
def test_errors_come_before_anything_is_compiled(message, options):
    y = (jnp.zeros((2, 3, 8)), jnp.ones((2, 3), bool)) if "encode" in options else Y
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(unet(**options).init, KEY, jnp.zeros((2, 6, 6, 1)), T, y)


@pytest.mark.requirement("R67")
@pytest.mark.parametrize(("tube", "folds"), [(3, ()), (1, (3,)), (2, (2,))])
def test_an_image_is_a_clip_whose_frames_are_equal(tube, folds):
    """Whether the stem folds the frames, or the downsampling, or each some of them."""
    options = {"patch": 2, "down": "patches", "up": "transposed"} if folds else {"patch": 2}
    frames = tube * math.prod(folds)
    network, clip = unet(tube=tube, folds=folds, **options), normal(2, frames, 8, 8, 1)
    params = random_params(network, clip, T, Y)
    apply = jax.jit(lambda x, params=params: network.apply({"params": params}, x, T, Y))
    assert apply(clip).shape == clip.shape
    still = jnp.repeat(clip[:, :1], frames, axis=1)
    image = apply(clip[:, 0])
    assert_close(image, jnp.mean(apply(still), axis=1), 1e-6)
    assert_close(apply(clip[:, :1])[:, 0], image, 0.0)
    with pytest.raises(ValueError, match=f"must be the number of frames of a clip, {frames + 1}"):
        apply(normal(2, frames + 1, 8, 8, 1))
    # Inflated, a network of images does to a clip of equal frames what it does to the image.
    images = random_params(unet(**options), clip[:, 0], T, Y)
    of_image = unet(**options).apply({"params": images}, clip[:, 0], T, Y)
    of_clip = apply(still, inflated(images, params, network))
    assert_close(of_clip, jnp.repeat(of_image[:, None], frames, axis=1), 1e-5)


def test_groups_of_frames_share_the_blocks_before_they_are_folded():
    """Without skip connections to a lower resolution, a group's features depend on its own frames alone."""
    encoder, x = Encoder(((4, False, False),), (), 1, UNetBlock, Down), normal(6, 4, 4, 4)
    condition = Encoded(vector=normal(2, 8))
    params = random_params(encoder, x, condition)
    apply = jax.jit(lambda x: encoder.apply({"params": params}, x, condition)[0])
    swapped = apply(x[jnp.array([2, 1, 0, 3, 4, 5])])
    assert_close(swapped, apply(x)[jnp.array([2, 1, 0, 3, 4, 5])], 1e-6)
    alone = encoder.apply({"params": params}, x[3:4], Encoded(condition.vector[1:]))[0]
    assert_close(apply(x)[3:4], alone, 1e-6)
