"""What a trained network makes of a noisy picture: its patches, and the activations of its blocks.

    python -m experiments.activations RUN [--say CLASS_OR_PROMPT] [--t 0.2 0.5 0.8] [--seed N] [--out FILE]

The picture is one that the model samples, noised to x_t = alpha_t data + beta_t noise at each of the times, a
row each, with the edges of the patches that enter the network. Activations are those after the last block of
each resolution in encoder, midcoder and decoder of a U-Net, and after some blocks of a DiT, token by token;
drawn is the mean over their channels, from its least value, dark, to its largest. The last column is the data
that the network predicts.

Source: "Building an Image Generator" (arXiv 2506.02070), U-Nets and diffusion transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.cli import refusing, script
from experiments.report.plots import save
from jaxflow import nn, paths, predictions, ranges
from jaxflow.places import place
from jaxflow.runs import loading
from jaxflow.runs.model import Model
from jaxflow.runs.requests import ClassOrPrompt
from jaxflow.typing import Condition

MOST, SIDE = 5, 1.3
"""Blocks of a DiT that are drawn, and side of a picture in inches."""
GRAY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[str]
    """A run folder or an exported file, with a U-Net or a DiT of images."""
    say: str | None = None
    """Name of a class, or a prompt; if omitted, no condition."""
    t: tuple[float, ...] = (0.2, 0.5, 0.8)
    """Times, a row each."""
    seed: int = 0
    """Of the picture and its noise."""
    out: str = "activations.png"
    """The PNG to write."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.activations")
    with refusing():
        ranges.not_empty(t=arguments.t)
        ranges.fraction(t=arguments.t)
        ranges.seed(arguments.seed)
        out = place(arguments.out, "out")
        model = loading.load(place(arguments.run, "run"))
        check(model)
        model.encode([arguments.say])
        out.parent.mkdir(parents=True, exist_ok=True)
    save(draw(model, arguments.say, arguments.t, arguments.seed), out)
    print(out)


def check(model: Model) -> None:
    """Raise a ValueError if the blocks of the network cannot be drawn."""
    network, shape = model.network, model.event_shape
    other = isinstance(network, nn.DiT) and (network.scan or network.joint_attention)
    if not isinstance(network, nn.UNet | nn.DiT) or other or len(shape) != 3 or model.is_map:
        kind = f"{type(network).__name__}, events {shape}{', flow map' if model.is_map else ''}"
        expected = "a field of images with a UNet, or a DiT without scan and joint_attention"
        raise ValueError(f"run = {kind}: expected that of {expected}")


def blocks_of(network: nn.UNet | nn.DiT) -> Mapping[str, tuple[str, ...]]:
    """Names of the blocks that are drawn, in their order, and where the network has them."""
    if isinstance(network, nn.DiT):
        chosen = np.linspace(0, network.depth - 1, min(network.depth, MOST)).round().astype(int)
        return {f"block {i + 1}": (f"block_{i}",) for i in chosen}
    levels, last = range(len(network.channels)), network.blocks - 1
    encoder = {f"encoder {i + 1}": ("encoder", f"block_{i}_{last}") for i in levels}
    decoder = {f"decoder {i + 1}": ("decoder", f"block_{i}_{last}") for i in reversed(levels)}
    return encoder | {"midcoder": ("midcoder", "block_1")} | decoder


def activations(
    model: Model, x: Float[Array, "b h w c"], t: Float[Array, " b"], y: Condition
) -> tuple[Float[Array, "b h w c"], list[Float[Array, "b rows columns channels"]]]:
    """The data that the network predicts, and the activations after each of `blocks_of`."""
    network: Any = model.network
    inside = lambda module, _: (module.name or "").startswith("block_")  # noqa: E731
    out, state = network.apply(
        {"params": model.params}, x, t, y, capture_intermediates=inside, mutable=["intermediates"]
    )
    data = predictions.convert(model.path, x, t, out, source=model.prediction, target="data")
    found = []
    for names in blocks_of(network).values():
        block = state["intermediates"]
        for name in (*names, "__call__"):
            block = block[name]
        (activation,) = block
        if isinstance(network, nn.DiT):
            b, h, w, _ = x.shape
            activation = activation.reshape(b, h // network.patch, w // network.patch, network.width)
        found.append(activation)
    return data, found


def draw(model: Model, say: ClassOrPrompt, times: tuple[float, ...], seed: int) -> Figure:
    """A row for each time."""
    picture = jnp.asarray(model.sample(seed, [say]))
    data = jnp.repeat(model.space.encode(picture), len(times), axis=0)
    noise = jax.random.normal(jax.random.key(seed), data.shape[1:], data.dtype)
    t, y = jnp.array(times, jnp.float32), model.encode([say] * len(times))
    x = paths.interpolate(model.path, data, jnp.broadcast_to(noise, data.shape), t)
    predicted, found = jax.jit(lambda x, t, y: activations(model, x, t, y))(x, t, y)
    columns: list[tuple[str, Any, dict]] = [("noisy picture", model.to_images(x), GRAY)]
    for name, a in zip(blocks_of(model.network), found, strict=True):
        title = f"{name}\n{' x '.join(map(str, a.shape[1:]))}"
        columns.append((title, a.mean(axis=-1), {"cmap": "viridis"}))
    columns.append(("predicted data", model.to_images(predicted), GRAY))
    size = (SIDE * len(columns), SIDE * len(times) + 0.5)
    figure = Figure(figsize=size, layout="compressed", dpi=115)
    axes = figure.subplots(len(times), len(columns), squeeze=False)
    for column, (title, pictures, style) in zip(axes.T, columns, strict=True):
        column[0].set_title(title, fontsize=8)
        for ax, picture in zip(column, np.asarray(pictures), strict=True):
            ax.imshow(picture, interpolation="nearest", **style)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, time in zip(axes[:, 0], times, strict=True):
        ax.set_ylabel(f"t = {time:g}")
        _lattice(ax, model)
    return figure


def _lattice(ax: Any, model: Model) -> None:
    """The edges of the patches, as part of the space's events, over an image."""
    (h, w), (rows, columns) = model.space.image_shape[:2], model.event_shape[:2]
    network: Any = model.network
    for side, count, line in ((h, rows, ax.axhline), (w, columns, ax.axvline)):
        for edge in range(network.patch, count, network.patch):
            line(edge * side / count - 0.5, color="#c8473a", linewidth=0.6)


if __name__ == "__main__":
    script(main)
