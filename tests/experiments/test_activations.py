import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import activations as script
from jaxflow import nn, paths
from jaxflow.data.codecs import Classes
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.unet import Head
from jaxflow.runs.model import Model
from jaxflow.spaces import Pixels

X, T, Y = jnp.linspace(-1, 1, 64).reshape(1, 8, 8, 1), jnp.full(1, 0.25), jnp.zeros(1, int)


def of(network):
    """A model with random parameters; predicted data are x + (1 - t) u."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), X, T, Y)["params"]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), leaf.dtype), shapes)
    return Model(network, params, paths.Linear(), "velocity", Classes(("a",)), Pixels((8, 8, 1)))


def test_a_unet_goes_down_and_up_and_its_head_makes_the_data_of_the_last_activation():
    model = of(nn.UNet(None, channels=(4, 8), attention=(), blocks=1, width=4))

    @jax.jit
    def computed():
        data, found = script.activations(model, X, T, Y)
        stem = Convolution(4).apply({"params": model.params["stem"]}, X)
        return data, found, Head(1).apply({"params": model.params["head"]}, found[-1] + stem)

    data, found, u = computed()
    shapes = [(name, a.shape[1:]) for name, a in zip(script.blocks_of(model.network), found, strict=True)]
    down, up = [("encoder 1", (8, 8, 4)), ("encoder 2", (4, 4, 8))], [("decoder 2", (4, 4, 8))]
    assert shapes == [*down, ("midcoder", (4, 4, 8)), *up, ("decoder 1", (8, 8, 4))]
    np.testing.assert_allclose(data, X + 0.75 * u, atol=1e-4)


def test_a_dit_is_drawn_token_by_token_where_its_patches_are(monkeypatch):
    """Without its blocks' parts each adds nothing: all have the embedded patches and their positions."""
    model = of(nn.DiT(None, patch=2, width=4, depth=7, heads=1, mlp_ratio=1, positions="learned"))
    zeros = {name: jax.tree.map(jnp.zeros_like, p) for name, p in model.params.items() if "block" in name}
    params = model.params | zeros
    sampled = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    monkeypatch.setattr(Model, "sample", lambda model, seed, said: sampled)
    figure = script.draw(model.at(params), "a", (0.25, 0.5), 3)
    axes = np.reshape(figure.axes, (2, 7))
    blocks = [f"block {i}\n4 x 4 x 4" for i in (1, 3, 4, 5, 7)]
    assert [ax.get_title() for ax in axes[0]] == ["noisy picture", *blocks, "predicted data"]
    noise = np.asarray(jax.random.normal(jax.random.key(3), (8, 8)))
    embedding, positions = jax.tree.map(np.asarray, (params["patch_embedding"], params["position_embedding"]))
    for row, t in zip(axes, (0.25, 0.5), strict=True):
        x = t * (sampled[0, ..., 0] / 127.5 - 1) + (1 - t) * noise
        patches = x.reshape(4, 2, 4, 2).swapaxes(1, 2).reshape(16, 4)
        tokens = patches @ embedding["kernel"] + embedding["bias"] + positions[0]
        for ax in row[1:-1]:
            drawn = ax.images[0].get_array()
            np.testing.assert_allclose(drawn, tokens.mean(axis=1).reshape(4, 4), atol=1e-5)
        assert len(row[0].lines) == 2 * 3  # between the patches


def test_other_networks_are_rejected():
    model = of(nn.DiT(None, patch=2, width=4, depth=2, heads=1, scan=True))
    with pytest.raises(
        ValueError, match=r"run = DiT, events \(8, 8, 1\): expected that of a field of images"
    ):
        script.check(model)
