import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, normal, random_params

from jaxflow import nn
from jaxflow.nn.adaln import DiTBlock, MMDiTBlock
from jaxflow.nn.depthwise import DepthwiseConvolution, grouped
from jaxflow.nn.dit import published
from jaxflow.nn.embeddings import Fourier, rotate

KEY = jax.random.key(0)
X, T, Y = normal(2, 8, 8, 3), jnp.array([0.1, 0.9]), jnp.array([0, 3])
TEXT = nn.TokenSequence(normal(2, 3, 8), jnp.array([[True, True, False], [False] * 3]), normal(2, 6))
"""Two captions, one of them empty."""


def count(network, size, channels):
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, size, size, channels)), T[:1], Y[:1])
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


# Width, depth and millions of parameters by 2212.09748 and its code; exactly for XL.
PUBLISHED = {
    "S": (384, 12, 32.96),
    "B": (768, 12, 130.51),
    "L": (1024, 24, 458.10),
    "XL": (1152, 28, 675.129632),
}


@pytest.mark.requirement("R52")
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_parameter_counts(size):
    """Latents of 32 x 32 x 4, 1,000 classes and null; the published counts include the fixed positions."""
    w, depth, millions = PUBLISHED[size]
    block = 6 * (w * w + w) + 4 * (w * w + w) + (w * 4 * w + 4 * w) + (4 * w * w + w)
    time, table, first = 256 * w + w + w * w + w, 1001 * w, 16 * w + w
    last = 2 * (w * w + w) + w * 32 + 32
    found = count(published(size, 2, nn.ClassTable(1000), scan=True), 32, 4)
    assert found == depth * block + time + table + first + last
    assert round((found + 256 * w) / 1e6, 6 if size == "XL" else 2) == millions


def test_larger_patches_change_nothing_but_the_first_and_last_layer():
    counts = {p: count(published("S", p, nn.ClassTable(1000), depth=1), 32, 4) for p in (1, 2, 4, 8)}
    for p, found in counts.items():
        assert found - counts[1] == (p**2 - 1) * 4 * (384 + 2 * 385)


def test_options_override_the_published_ones():
    network = published("S", 4, nn.ClassTable(10), learned_variance=False, depth=3)
    assert (network.learned_variance, network.depth) == (False, 3)
    assert (network.frequencies, network.positions, network.time) == (256, "sinusoidal", "sinusoidal")


def test_no_such_size():
    with pytest.raises(ValueError, match="size = 'M': must be one of S, B, L, XL"):
        published("M", 2, nn.ClassTable(10))


@pytest.mark.requirement("R52")
def test_blocks_are_the_identity_at_initialisation():
    x, others = normal(2, 9, 16), normal(2, 4, 16)
    embedding, mask = jnp.ones((2, 8)), jnp.ones((2, 4), bool)
    for arguments in ((x, embedding), (x, embedding, others, mask)):
        block = DiTBlock(heads=2, grid=(3, 3), depthwise=True)
        assert_close(jax.jit(block.init_with_output)(KEY, *arguments)[0], x, 0)
    block = MMDiTBlock(heads=2, grid=(3, 3), depthwise=True)
    assert_close(jax.jit(block.init_with_output)(KEY, x, embedding, others, mask)[0], (x, others), 0)


def test_depthwise_convolution_mixes_neighbours():
    x, kernel = normal(2, 4 * 6, 5), normal(3, 3, 5)
    out = DepthwiseConvolution((4, 6)).apply({"params": {"weights": kernel}}, x)
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x.reshape(2, 4, 6, 5),
        kernel[:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=numbers,
        feature_group_count=5,
    )
    assert_close(out, x + expected.reshape(x.shape), 1e-5)
    assert_close(grouped(x.reshape(2, 4, 6, 5), kernel[:, :, None]), expected, 1e-6)  # of other platforms


OPTIONS = [
    {"cross_attention": True, "positions": "rotary", "depth": 1},
    {"cross_attention": True, "positions": "learned", "depth": 1, "time": "fourier"},
    {"joint_attention": True, "positions": "rotary", "qk_norm": True, "depthwise": True},
]


def small(**options):
    return nn.DiT(encode=nn.TokenProjection(), **{"width": 16, "depth": 2, "heads": 2, **options})


def trained(network):
    return random_params(network, X, T, TEXT)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_options_start_at_zero_and_every_parameter_has_a_gradient(options):
    network = small(**options)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradients(params):
        out = network.apply({"params": params}, X, T, TEXT)
        return jnp.sum((out - 1) ** 2), out

    params = trained(network)
    # Only the last layer of the initialisation is compiled: XLA eliminates the rest.
    last = jax.jit(lambda key: network.init(key, X, T, TEXT)["params"]["final"])(KEY)
    assert_close(gradients({**params, "final": last})[1], jnp.zeros_like(X), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(params)[0]):
        name = jax.tree_util.keystr(path)
        # A bias shared by all keys, or by all tokens before a normalisation, has no effect.
        if "key']['bias']" in name:
            continue
        assert np.asarray(leaf).any(), name


@pytest.mark.parametrize("options", [{"cross_attention": True, "depth": 1}, {"joint_attention": True}])
def test_rematerialised_gradients_are_the_same(options):
    plain, again = (small(**options, dropout=0.5, remat=remat) for remat in (False, True))
    params = trained(plain)

    def gradient(network):
        def loss(params):
            rngs = {"dropout": jax.random.key(7)}  # the recomputation must drop the same units
            return jnp.sum(jnp.sin(network.apply({"params": params}, X, T, TEXT, train=True, rngs=rngs)))

        return jax.jit(jax.grad(loss))(params)

    assert_close(gradient(again), gradient(plain), 1e-4)


@pytest.mark.parametrize(
    "options",
    [{"cross_attention": True}, {"joint_attention": True, "remat": True, "depth": 3}],
)
def test_scanned_blocks_equal_unrolled_ones(options):
    """Rematerialised or not. The last block of a joint transformer is not among those of the scan."""
    looped, plain = small(**options, scan=True), small(**options | {"remat": False})
    params = trained(looped)
    stacked = params["blocks"]
    count = len(jax.tree.leaves(stacked)[0])
    apart = {f"block_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)}
    unstacked = {name: leaf for name, leaf in params.items() if name != "blocks"} | apart

    def gradient(network, params):
        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(network.apply({"params": p}, X, T, TEXT)))))(params)

    ours, theirs = gradient(looped, params), gradient(plain, unstacked)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(theirs.pop(name) for name in apart))
    assert_close(ours, theirs | {"blocks": stack}, 1e-4)


def test_a_joint_transformer_of_one_block_is_not_scanned():
    looped, plain = (small(joint_attention=True, depth=1, scan=scan) for scan in (True, False))
    params = trained(plain)
    outs = (jax.jit(network.apply)({"params": params}, X, T, TEXT) for network in (looped, plain))
    assert_close(*outs, 1e-6)


def test_the_first_blocks_of_a_joint_transformer_may_have_a_second_attention():
    """Scanned, they are a loop of their own; the last block may be one of them."""
    shapes = lambda **options: jax.eval_shape(  # noqa: E731
        small(joint_attention=True, depth=4, **options).init, KEY, X, T, TEXT
    )["params"]
    dual = {f"block_{i}" for i in range(4) if "attention" in shapes(dual_blocks=2)[f"block_{i}"]}
    assert dual == {"block_0", "block_1"}
    assert "attention" in shapes(dual_blocks=4)["block_3"]
    looped = shapes(dual_blocks=2, scan=True)
    assert "attention" in looped["dual_blocks"]
    assert "attention" not in looped["blocks"]
    counts = [sum(leaf.size for leaf in jax.tree.leaves(one)) for one in (looped, shapes(dual_blocks=2))]
    assert counts[0] == counts[1]


def test_an_image_takes_its_positions_from_the_centre_of_the_table():
    """Of 8 x 8; an image of 4 x 8 patches has its middle rows, so that moving the table moves the image."""
    network = small(positions="learned", position_grid=8, patch=1, depth=1)
    x = normal(2, 4, 8, 3)
    params = random_params(network, x, T, TEXT)
    assert params["position_embedding"].shape == (1, 64, network.width)
    apply = jax.jit(network.apply)
    table = params["position_embedding"].reshape(8, 8, -1)
    outside = table.at[:2].set(7.0).at[6:].set(-7.0)
    again = params | {"position_embedding": outside.reshape(1, 64, -1)}
    assert_close(apply({"params": again}, x, T, TEXT), apply({"params": params}, x, T, TEXT), 0)
    inside = params | {"position_embedding": table.at[2].set(7.0).reshape(1, 64, -1)}
    assert (
        float(jnp.abs(apply({"params": inside}, x, T, TEXT) - apply({"params": params}, x, T, TEXT)).max())
        > 0.1
    )
    with pytest.raises(ValueError, match="image of 9 x 8 patches: the table has positions for 8 x 8"):
        jax.eval_shape(network.apply, {"params": params}, normal(2, 9, 8, 3), T, TEXT)


@pytest.mark.parametrize("text", ["cross_attention", "joint_attention"])
def test_bfloat16_is_close_to_float32_and_keeps_its_parameters(text):
    plain = small(**{text: True}, depth=1 if text == "cross_attention" else 2)
    params = trained(plain)
    half = plain.clone(dtype="bfloat16")
    assert all(
        leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(jax.eval_shape(half.init, KEY, X, T, TEXT))
    )
    out, exact = (jax.jit(net.apply)({"params": params}, X, T, TEXT) for net in (half, plain))
    assert out.dtype == jnp.float32
    assert_below(jnp.sqrt(jnp.mean((out - exact) ** 2) / jnp.mean(exact**2)), 0.05)


def test_times_near_one_are_distinct_in_bfloat16():
    """bfloat16 would round 0.999 to 1."""
    network = small(dtype="bfloat16", depth=1)
    params = trained(network)
    apply = jax.jit(network.apply)
    out = [apply({"params": params}, X, jnp.full(2, t), TEXT) for t in (0.999, 1.0)]
    assert float(jnp.abs(out[0] - out[1]).max()) > 1e-3


def test_learned_variance_is_computed_and_discarded():
    network = small(learned_variance=True)
    out, variables = jax.eval_shape(network.init_with_output, KEY, X, T, TEXT)
    assert out.shape == X.shape
    assert variables["params"]["final"]["kernel"].shape == (16, 2 * 2 * 2 * 3)


def test_rotary_products_depend_on_differences_of_position():
    """On a grid of equal vectors the product of two positions depends only on their difference."""
    rows, columns = 4, 5
    q, k = (jnp.broadcast_to(v, (1, rows * columns, 1, 8)) for v in jax.random.normal(KEY, (2, 1, 1, 1, 8)))
    q, k = rotate(q, rows, columns), rotate(k, rows, columns)
    products = jnp.einsum("bnhd,bmhd->nm", q, k, precision="highest").reshape(rows, columns, rows, columns)
    for r, c in itertools.product(range(rows - 1), range(columns - 1)):
        assert_close(products[r, c, r + 1, c + 1], products[0, 0, 1, 1], 1e-5)
        assert_close(products[r + 1, c, r, c + 1], products[1, 0, 0, 1], 1e-5)
    assert abs(float(products[0, 0, 0, 1] - products[0, 0, 1, 0])) > 1e-3  # rows and columns differ
    assert_close(jnp.sum(q**2, -1), jnp.full((1, 20, 1), jnp.sum(q[0, 0] ** 2)), 1e-5)


@pytest.mark.requirement("R53")
def test_fourier_features_have_mean_square_one():
    out, variables = Fourier(40).init_with_output(KEY, jnp.linspace(0, 1, 7))
    assert variables["params"]["w"].shape == (20,)
    assert_close(jnp.mean(out**2, axis=1), jnp.ones(7), 1e-5)
    w = variables["params"]["w"]
    assert_close(out[3, :20], jnp.sqrt(2.0) * jnp.sin(jnp.pi * w), 1e-5)


def test_text_enters_by_one_kind_of_attention():
    with pytest.raises(ValueError, match="cross_attention = joint_attention = True: at most one"):
        jax.eval_shape(small(cross_attention=True, joint_attention=True).init, KEY, X, T, TEXT)
