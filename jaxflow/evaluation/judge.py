"""An independent judge: a classifier trained on real images only.

Its classes give the accuracy of guided samples, its features the space of the Frechet distance and of the
manifolds. Trained on several labels per image, such as the words of captions, it predicts each on its own.
To it the channels of a clip are the pixels of small patches in all frames, so that their order matters.
"""

from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from jaxflow import progress
from jaxflow.devices.blocks import in_blocks
from jaxflow.nn.classifier import Classifier
from jaxflow.nn.patches import to_tubes
from jaxflow.spaces import Pixels

Images = UInt8[Array, "n *image"] | UInt8[np.ndarray, "n *image"]
Labels = Int[Array, " n"] | Int[np.ndarray, " n"] | Bool[Array, "n classes"] | Bool[np.ndarray, "n classes"]
"""The class of each image, or which of several labels it has."""


@dataclass(frozen=True)
class Judge:
    """A trained classifier."""

    network: Classifier
    params: Any

    sharding: NamedSharding | None = None
    """Of the images to judge; if None, one device."""

    def __call__(self, images: Images) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
        """Most likely class and features of each image."""
        logits, features = self.outputs(images)
        return np.argmax(logits, axis=-1), features

    def outputs(self, images: Images) -> tuple[Float[np.ndarray, "n classes"], Float[np.ndarray, "n d"]]:
        """Logits and features of each image, in blocks of 500 to bound memory."""
        look = partial(_look, self.network, self.params)
        return in_blocks(look, np.asarray(images), size=500, sharding=self.sharding)


def train_judge(
    key: PRNGKeyArray,
    images: Images,
    labels: Labels,
    classes: int,
    *,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    sharding: NamedSharding | None = None,
) -> Judge:
    """Train a classifier on real images, shifted by up to a tenth of their size.

    Args:
        key: of initialisation, order, shifts and dropout.
        images: real images.
        labels: their classes, 0 to `classes` - 1; or a row of booleans for each, if it has several labels.
        classes: number of classes or labels.
        steps: training steps.
        batch_size: images in a step.
        learning_rate: peak of a one-cycle schedule.
        sharding: of the images to classify; training uses one device per process.
    """
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    network = Classifier(classes) if images.ndim == 4 else Classifier(classes, channels=(64, 96, 128))
    params = jax.jit(network.init)(key, _planes(images[:1]))["params"]
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, learning_rate), weight_decay=0.01)

    def loss(params, key):
        pick_key, shift_key, dropout_key = jax.random.split(key, 3)
        picked = jax.random.randint(pick_key, (batch_size,), 0, len(images))
        batch = _shift(shift_key, _planes(images[picked]))
        logits, _ = network.apply({"params": params}, batch, train=True, rngs={"dropout": dropout_key})
        return _cross_entropy(logits, labels[picked])

    @jax.jit
    def step(params, state, n):
        gradient = jax.grad(loss)(params, jax.random.fold_in(key, n))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    # A Python loop: XLA's CPU backend runs the gradients of convolutions inside a scan many times slower.
    state = optimizer.init(params)
    for n in progress.over(range(steps), "train judge", unit="step"):
        params, state = step(params, state, n)
    return Judge(network, jax.device_get(params), sharding)


def _cross_entropy(logits: Float[Array, "b classes"], labels: Array) -> Float[Array, ""]:
    if labels.ndim == 1:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)))


def _shift(key: PRNGKeyArray, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The batch shifted by a few pixels, the same for all images; the border becomes black."""
    b, h, w, c = images.shape
    most = h // 10
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=-1)
    row, column = jax.random.randint(key, (2,), 0, 2 * most + 1)
    return jax.lax.dynamic_slice(padded, (0, row, column, 0), (b, h, w, c))


@partial(jax.jit, static_argnums=0)
def _look(network: Classifier, params: Any, images: UInt8[Array, "b *image"]) -> tuple[Array, Array]:
    return cast(tuple[Array, Array], network.apply({"params": params}, _planes(images)))


def _planes(images: UInt8[Array, "b *f h w c"]) -> Float[Array, "b _ _ planes"]:
    """Grey levels in [-1, 1]; of a clip, those of 2 x 2 pixels in all frames together."""
    x = Pixels(images.shape[1:]).encode(images)
    return x if x.ndim == 4 else to_tubes(x, gcd(2, *x.shape[2:4]), x.shape[1])[:, 0]
