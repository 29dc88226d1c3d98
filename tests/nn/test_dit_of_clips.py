from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params

from jaxflow import nn
from jaxflow.nn.embeddings import rotate
from jaxflow.nn.inflation import inflated
from jaxflow.nn.patches import from_tubes, to_tubes

pytestmark = pytest.mark.usefixtures("standard_promotion")

T, Y = jnp.array([0.2, 0.7]), jnp.array([0, 2])
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 3))
VARIANTS = {
    "sinusoidal": {},
    "rotary": {"positions": "rotary"},
    "learned, depthwise": {"positions": "learned", "depthwise": True},
    "scan": {"scan": True},
    "full, rotary": {"attention_in_time": "full", "positions": "rotary"},
    "joint": {"attention_in_time": "full", "joint_attention": True},
}


def network(tube=1, **options):
    encode = nn.TokenProjection() if options.get("joint_attention") else nn.ClassTable(3)
    return nn.DiT(encode=encode, patch=4, width=16, depth=2, heads=2, tube=tube, **options)


def condition(net):
    if not net.joint_attention:
        return Y
    return nn.TokenSequence(jnp.ones((2, 3, 5)), jnp.ones((2, 3), bool), jnp.ones((2, 4)))


def random(net, x):
    return random_params(net, x, T, condition(net))


def initial(net, x):
    return jax.jit(net.init)(jax.random.key(1), x, T, condition(net))["params"]


@partial(jax.jit, static_argnums=0)
def apply(net, params, x):
    return net.apply({"params": params}, x, T, condition(net))


def applied(*arguments):
    return np.asarray(apply(*arguments))


@pytest.mark.requirement("R67")
@pytest.mark.parametrize("name", VARIANTS)
def test_an_image_is_a_clip_of_one_frame(name):
    net = network(**VARIANTS[name])
    params = random(net, CLIPS)
    image = CLIPS[:, 0]
    as_image = applied(net, params, image)
    np.testing.assert_allclose(applied(net, params, image[:, None])[:, 0], as_image, atol=1e-6)
    own = random(net, image)  # the network of images has no other parameters
    same = jax.tree_util.tree_map_with_path(lambda path, _: _at(params, path), own)
    np.testing.assert_allclose(applied(net, same, image), as_image, atol=1e-6)


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


@pytest.mark.requirement("R67")
@pytest.mark.parametrize("name", ["rotary", "learned, depthwise", "scan"])
def test_an_inflated_network_is_that_of_images_frame_by_frame(name):
    net = network(**VARIANTS[name])
    images = random(net, CLIPS[:, 0])
    params = inflated(images, initial(net, CLIPS), net)
    frames = np.stack([applied(net, images, CLIPS[:, i]) for i in range(4)], axis=1)
    np.testing.assert_allclose(applied(net, params, CLIPS), frames, atol=1e-6)
    moved = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.1 if "time_modulation" in str(path) else leaf, params
    )
    assert np.abs(applied(net, moved, CLIPS) - frames).max() > 1e-3  # then frames see each other


def test_an_inflated_tube_takes_the_mean_of_its_frames():
    net, images = network(tube=2, auxiliary=1), random(network(auxiliary=1), CLIPS[:, 0])
    params = inflated(images, initial(net, CLIPS), net)
    still = jnp.repeat(CLIPS[:, :1], 4, axis=1)
    of_image = applied(network(auxiliary=1), images, CLIPS[:, 0])
    np.testing.assert_allclose(applied(net, params, still), np.repeat(of_image[:, None], 4, 1), atol=1e-6)
    np.testing.assert_allclose(applied(net, params, CLIPS[:, 0]), of_image, atol=1e-6)


def test_an_encoder_of_other_conditions_is_not_inflated():
    net, images = network(), random(network().clone(encode=nn.ClassTable(5)), CLIPS[:, 0])
    own = random(net, CLIPS)
    merged = inflated(images, own, net)
    for path, leaf in jax.tree_util.tree_leaves_with_path(merged["encode"]):
        np.testing.assert_array_equal(leaf, _at(own["encode"], path))
    kernel = merged["patch_embedding"]["kernel"]
    np.testing.assert_array_equal(kernel, images["patch_embedding"]["kernel"])


def test_inflation_names_what_does_not_fit():
    net = network()
    own = random(net, CLIPS)
    with pytest.raises(ValueError, match=r"block_1.*the network of images does not have it"):
        inflated(random(net.clone(depth=1), CLIPS[:, 0]), own, net)
    with pytest.raises(ValueError, match=r"final/bias: \(12,\) in the network of images"):
        inflated(random(net.clone(patch=2), CLIPS[:, 0]), own, net)
    with pytest.raises(ValueError, match=r"block_2.*the network of clips does not have it"):
        inflated(random(net.clone(depth=3), CLIPS[:, 0]), own, net)


def test_tubes_are_inverted_and_number_the_frames():
    tubes = to_tubes(CLIPS, 4, 2)
    assert tubes.shape == (2, 2, 2, 2, 2 * 4 * 4 * 3)
    np.testing.assert_array_equal(from_tubes(tubes, 4, 2, CLIPS.shape), CLIPS)
    np.testing.assert_array_equal(tubes[:, 1, 0, 1, :48].reshape(2, 4, 4, 3), CLIPS[:, 2, :4, 4:])
    with pytest.raises(ValueError, match="tube = 3: must divide the 4 frames"):
        to_tubes(CLIPS, 4, 3)


def test_rotary_positions_are_relative_in_space_and_time():
    """Queries and keys of one content: logits depend on the differences of frame, row and column only."""
    frames, rows, columns = 3, 4, 5
    q, k = (jax.random.normal(jax.random.key(i), (1, 1, 2, 16)) for i in (2, 3))
    q, k = (jnp.broadcast_to(a, (1, frames * rows * columns, 2, 16)) for a in (q, k))
    q, k = rotate(q, rows, columns, frames), rotate(k, rows, columns, frames)
    logits = jnp.einsum("bnhd,bmhd->hnm", q, k).reshape(2, *(frames, rows, columns) * 2)
    for shift in np.ndindex(2, 2, 2):
        f, r, c = shift
        moved = logits[:, f:, r:, c:, f:, r:, c:]
        kept = logits[:, : frames - f, : rows - r, : columns - c, : frames - f, : rows - r, : columns - c]
        np.testing.assert_allclose(moved, kept, atol=1e-5)
    for axis in (0, 1, 2):  # and they do depend on each of them
        differ = logits[:, 0, 0, 0].swapaxes(1, 1 + axis)
        assert np.abs(differ[:, 0] - differ[:, 1]).max() > 1e-2


def test_full_attention_lets_frames_see_each_other_and_factorised_only_at_their_position():
    """The gradient of one patch of frame 0 with respect to the clip."""
    seen = {}
    for kind in ("factorised", "full"):
        net = network(attention_in_time=kind).clone(depth=1)
        params = random(net, CLIPS)
        of_patch = lambda x: net.apply({"params": params}, x, T, Y)[0, 0, :4, :4].sum()  # noqa: B023, E731
        gradient = np.abs(jax.jit(jax.grad(of_patch))(CLIPS))[0]
        seen[kind] = gradient.reshape(4, 2, 4, 2, 4, 3).max((2, 4, 5)) > 0  # frames, rows, columns of patches
    assert seen["full"].all()
    # One block attends in space, then in time: other frames are seen as their own space has mixed them.
    assert seen["factorised"].all()


def test_joint_attention_needs_full_attention_in_time():
    net = network(joint_attention=True)
    with pytest.raises(ValueError, match="attention_in_time = 'factorised': must be 'full'"):
        initial(net, CLIPS)
