"""Inflation: the parameters of a network of images as those of a network of clips.

Source: Carreira and Zisserman 1705.07750, section 2.1.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxflow.nn.dit import DiT
from jaxflow.nn.unet import UNet

Params = Any

FIRST = {("patch_embedding",), ("stem",)}
"""Layers whose input is a patch in all its frames."""
LAST = {("final",), ("auxiliary_final",), ("head", "conv"), ("head", "linear"), ("refinement", "features")}
"""Layers whose output is one, or has channels for each frame."""


def inflated(images: Params, clips: Params, network: DiT | UNet) -> Params:
    """The parameters `clips` of a network with those of its twin for images put in.

    What only clips have is kept, attention in time and refinement, at their initial zero: a DiT then does to
    each frame what the twin does to an image. Over several frames, and so in a U-Net, patches begin as the
    mean of those of each frame. An encoder of other conditions is kept too.

    Args:
        images: parameters of `network` for images, where `tube` is 1.
        clips: initial parameters of `network`.
        network: of clips.

    Raises:
        ValueError: the networks differ in more than time; the message names a parameter.
    """
    frames = range(network.tube)

    def tiled(names: tuple[str, ...], leaf: jax.Array) -> jax.Array:
        """A leaf of the first layer or the last, whose patches are over several frames."""
        if names[-1] == "kernel" and not FIRST.isdisjoint((names[:1], names[:2])):
            return jnp.concatenate([leaf / network.tube for _ in frames], axis=-2)
        if not LAST.isdisjoint((names[:1], names[:2])):
            return jnp.concatenate([leaf for _ in frames], axis=-1)
        return leaf

    if _shapes(images.get("encode")) != _shapes(clips.get("encode")):
        images = images | {"encode": clips["encode"]}
    given = {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(images)}

    def put(path: Any, own: jax.Array) -> jax.Array:
        names = _names(path)
        if names not in given:
            in_time = any(name.startswith("time_") and name != "time_embedding" for name in names)
            if not in_time and names[0] != "refinement":
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
