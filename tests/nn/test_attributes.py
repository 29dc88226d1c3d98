"""Attributes of networks: their bounds, their choices, and the names of submodules."""

import itertools

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
import tyro

from jaxflow import nn
from jaxflow.nn import attributes
from jaxflow.nn.classifier import Classifier, NoisyClassifier
from jaxflow.nn.clip_text import CLIPText
from jaxflow.nn.inception import Inception
from jaxflow.nn.t5 import T5Encoder
from jaxflow.nn.vision import VisionTransformer

KEY, X, T = jax.random.key(0), jnp.zeros((2, 8, 8, 4)), jnp.zeros(2)
WORDS, MASK = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3), bool)
TOKENS = nn.TokenSequence(jnp.zeros((2, 3, 8)), MASK, jnp.zeros((2, 6)))
TEXT = nn.TextEncoder(vocabulary=4, width=8, depth=1, heads=2)
SEVERAL = nn.CompositeEncoder((nn.ClassTable(3), nn.VectorMLP(5), TEXT, nn.TokenProjection()))
ALL = (jnp.zeros(2, jnp.int32), nn.OptionalVector(jnp.zeros((2, 5)), jnp.ones(2, bool)), WORDS, TOKENS)


class Named(linen.Module):
    """A module whose annotations nothing else has read."""

    dtype: attributes.Dtype = "float32"
    rate: attributes.Rate = 0.0
    channels: attributes.Widths = (4, 8)


def dits():
    ways = ({}, {"cross_attention": True}, {"joint_attention": True})
    loops = ({}, {"scan": True, "remat": True})
    times = ({"time": "fourier", "positions": "learned"}, {"positions": "rotary", "learned_variance": True})
    for way, loop, time in itertools.product(ways, loops, times):
        options = {"qk_norm": True, "depthwise": True, "dropout": 0.1, **way, **loop, **time}
        yield nn.DiT(encode=SEVERAL, width=16, depth=2, heads=2, **options), (X, T, ALL)


def unets():
    names = attributes.names_of(nn.UNet)
    del names["dtype"], names["attention_implementation"]
    for name, values in names.items():
        for value in set(values) - {getattr(nn.UNet, name)}:  # the default is in all others
            options = {"cross_attention": (False, True), "blocks": 1, "dropout": 0.1, name: value}
            yield nn.UNet(encode=SEVERAL, channels=(4, 8), width=8, **options), (X, T, ALL)
    yield nn.UNet(encode=None, channels=(4, 8), remat=True), (X, T, None)


def others():
    ids = jnp.zeros((2, 5), jnp.int32)
    yield nn.LabUNet(nn.ClassTable(3), channels=(4, 8), width=8), (X, T, ALL[0])
    yield Classifier(3), (X,)
    yield NoisyClassifier(3), (X, T)
    yield CLIPText(10, 8, 2, 2, 8, 5, projection=4), (ids,)
    yield (
        VisionTransformer(8, 2, 2, 8, 4, 2, branch_scales=True, patch_bias=True, projection=4),
        (X[..., :3],),
    )
    yield Inception(), (X[..., :3],)
    for feed_forward in ("relu", "gated-gelu"):
        yield T5Encoder(10, 8, 2, 2, 4, 8, feed_forward), (ids, jnp.ones((2, 5), bool))


def automatic(network, inputs):
    """Names of called modules and of parameters that Flax derived from a class and a number."""
    paths = []

    def record(call, args, kwargs, context):
        paths.append(context.module.path)
        return call(*args, **kwargs)

    with linen.intercept_methods(record):
        shapes = jax.eval_shape(network.init, {"params": KEY, "dropout": KEY}, *inputs)
    paths += [[entry.key for entry in path] for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    return {part for path in paths for part in path if part[0].isupper()}


@pytest.mark.parametrize("kind", [dits, unets, others])
def test_every_name_is_chosen(kind):
    """Checkpoints must not depend on the order in which a network calls its submodules."""
    for network, inputs in kind():
        assert automatic(network, inputs) == set(), network


REFUSED = {
    "dtype = 'float16': must be 'float32' or 'bfloat16'": {"dtype": "float16"},
    "rate = 1.0: must be less than 1": {"rate": 1.0},
    "rate = nan: must be less than 1": {"rate": float("nan")},
    r"channels = \(4, 0\): must be greater than or equal to 1": {"channels": (4, 0)},
    r"channels = \(\): must have at least 1 item": {"channels": ()},
    r"channels = \[4\]: must be a valid tuple": {"channels": [4]},
}


@pytest.mark.parametrize(("message", "options"), REFUSED.items())
def test_values_out_of_range(message, options):
    attributes.check(Named())
    with pytest.raises(ValueError, match=message):
        attributes.check(Named(**options))


TOO_MUCH = {
    "depth": nn.DiT(encode=None, depth=10**9),
    "width": nn.DiT(encode=None, width=10**9),
    "heads": nn.DiT(encode=None, heads=10**9),
    "mlp_ratio": nn.DiT(encode=None, mlp_ratio=10**9),
    "frequencies": nn.DiT(encode=None, frequencies=10**9),
    "patch": nn.DiT(encode=None, patch=10**9),
    "dropout": nn.DiT(encode=None, dropout=1.0),
    "blocks": nn.UNet(encode=None, blocks=10**9),
    "channels": nn.UNet(encode=None, channels=(1,) * 17),
    "layers": nn.LabUNet(encode=nn.ClassTable(3), layers=10**9),
    "classes": nn.DiT(encode=nn.ClassTable(10**9)),
    "size": nn.DiT(encode=nn.VectorMLP(10**9)),
    "vocabulary": nn.DiT(encode=nn.TextEncoder(10**9)),
    "encoders": nn.DiT(encode=nn.CompositeEncoder((nn.ClassTable(3),) * 17)),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_oversized_networks_are_rejected_at_once(name):
    encode = TOO_MUCH[name].encode
    y = {nn.VectorMLP: ALL[1], nn.TextEncoder: WORDS, nn.CompositeEncoder: (ALL[0],) * 17}.get(
        type(encode), ALL[0]
    )
    with pytest.raises(ValueError, match=f"^{name} = "):
        jax.eval_shape(TOO_MUCH[name].init, KEY, X, T, y)


def test_the_command_line_reads_them():
    found = tyro.cli(Named, args=["--dtype", "bfloat16", "--rate", "0.5", "--channels", "3", "5"])
    assert found == Named(dtype="bfloat16", rate=0.5, channels=(3, 5))
