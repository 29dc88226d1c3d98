"""Inflation: the parameters of a network of images as those of a network of clips.

Source: Carreira and Zisserman 1705.07750, section 2.1.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.dit import DiT
from jaxflow.nn.unet import UNet

Params = Any

FIRST = {"patch_embedding", "stem", "patches"}
"""Layers whose input is a patch in several frames: the first, and those of downsampling."""
LAST = {"final", "auxiliary_final", "head/conv", "head/linear", "conv_transpose"}
"""Layers whose output is one: the last, and those of upsampling."""


def inflated(images: Params, clips: Params, network: DiT | UNet) -> Params:
    """The parameters `clips` of a network with those of its twin for images put in.

    What only clips have is kept, attention in time at its initial zero: a DiT then does to each frame what
    the twin does to an image. Over several frames, and so in a U-Net, patches begin as the mean of those of
    each frame. An encoder of other conditions is kept too.

    Args:
        images: parameters of `network` for images, where `tube` and all `folds` are 1.
        clips: initial parameters of `network`.
        network: of clips.

    Raises:
        ValueError: the networks differ in more than time; the message names a parameter.
    """
    folds = {
        f"{way}_{i}": fold for i, fold in enumerate(getattr(network, "folds", ())) for way in ("down", "up")
    }

    def tiled(names: tuple[str, ...], leaf: jax.Array) -> jax.Array:
        """A leaf of a layer whose patches are over several frames."""
        within = {*names, "/".join(names[:2])}
        first, last = names[-1] == "kernel" and within & FIRST, within & LAST
        if not (first or last):
            return leaf
        frames = next((folds[name] for name in names if name in folds), network.tube)
        return jnp.concatenate([leaf / frames if first else leaf] * frames, axis=-2 if first else -1)

    if _shapes(images.get("encode")) != _shapes(clips.get("encode")):
        images = images | {"encode": clips["encode"]}
    given = {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(images)}

    def put(path: Any, own: jax.Array) -> jax.Array:
        names = _names(path)
        if names not in given:
            in_time = any(name.startswith("time_") and name != "time_embedding" for name in names)
            if not in_time:
                raise ValueError(f"{'/'.join(names)}: the network of images does not have it")
            return own
        leaf = tiled(names, given.pop(names))
        if leaf.shape != own.shape:
            raise ValueError(
                f"{'/'.join(names)}: {leaf.shape} in the network of images, {own.shape} in that of clips"
            )
        return leaf

    merged = jax.tree_util.tree_map_with_path(put, clips)
    if given:
        raise ValueError(f"{'/'.join(next(iter(given)))}: the network of clips does not have it")
    return merged


def _shapes(params: Params) -> Params:
    return jax.tree.map(jnp.shape, params)


def _names(path: Any) -> tuple[str, ...]:
    return tuple(key.key for key in path)
