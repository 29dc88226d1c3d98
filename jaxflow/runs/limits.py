"""What a machine can hold: numbers far beyond it are rejected before anything of their size is made."""

import math
from typing import Any

import jax

from jaxflow.devices.memory import memory, of_host
from jaxflow.ranges import quoted
from jaxflow.runs import schema
from jaxflow.runs.configuration import Recipe

MOST_BLOCKS = 256
"""Of a network that is not a loop; DiT-XL has 28."""
LARGEST_SIDE = 16_384
"""Of an image, in pixels."""
COPIES = 4
"""Of a batch in float32 at least: data, noise, the point between them and the prediction."""


def blocks_of(network: Any) -> int:
    """Blocks of one of our networks that are built one by one, each with parameters of its own."""
    if type(network) not in schema.CLASSES:
        return 0
    counts = () if getattr(network, "scan", False) else ("depth", "blocks", "layers")
    resolutions = max(1, len(getattr(network, "channels", ())))
    blocks = math.prod(getattr(network, name, 1) for name in counts) * resolutions
    return blocks + blocks_of(getattr(network, "encode", None))


def check_blocks(network: Any) -> None:
    """Raise a ValueError if a network has more blocks than can be built and compiled in reasonable time."""
    if blocks_of(network) > MOST_BLOCKS:
        raise ValueError(
            f"network: it has {blocks_of(network)} blocks, and more than {MOST_BLOCKS} take minutes to build:"
            " lower its depth, or set network.scan, where available, to compile one block as a loop"
        )


def check_batch(experiment: Recipe, image_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if the images of one micro-batch alone exceed the memory."""
    examples = experiment.batch_size / experiment.accumulate
    needed, there = COPIES * 4 * examples * math.prod(image_shape), memory() * _devices()
    if needed > there:
        raise ValueError(
            f"image_size = {image_shape[-2]}, batch_size = {experiment.batch_size}: such a batch takes"
            f" {size(needed)}, more than the {size(there)} of memory: choose smaller images, a smaller"
            " batch, or accumulate"
        )


def check_state(needed: int, *, sharded: bool) -> None:
    """Raise a ValueError if the training state exceeds the memory.

    Args:
        needed: bytes of parameters, their moving average and the optimiser's state.
        sharded: over all devices; otherwise each holds a copy.
    """
    there = memory() * (_devices() if sharded else 1)
    if needed > there:
        raise ValueError(
            f"network: parameters, their average and the optimiser's moments take {size(needed)}, more than"
            f" the {size(there)} of memory: make it narrower or shallower"
            + ("" if sharded or _devices() == 1 else ", or shard it with --parallel fsdp")
        )


def check_images(each: int, **counts: int) -> None:
    """Check that a number of images fits into half of this machine's memory, before a list of them is made.

    Args:
        each: bytes of one image and its condition.
        counts: their product is the number of images.

    Raises:
        ValueError: they do not fit; the message names the counts.
    """
    number, there = math.prod(counts.values()), of_host() // 2
    if number * each > there:
        raise ValueError(
            f"{' x '.join(counts)} = {' x '.join(map(quoted, counts.values()))} images take"
            f" {size(number * each)}, more than half of this machine's memory, {size(there)}: sample at most"
            f" {there // each} at a time"
        )


def size(count: float | int) -> str:
    """Bytes in their natural unit.

    >>> [size(n) for n in (2e5, 3e9, 7e15)]
    ['200 kB', '3 GB', '7e+03 TB']
    """
    for unit, one in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * one:
            return f"{count / one:.3g} {unit}"
    return f"{count / 1e12:.3g} TB"


def _devices() -> int:
    """Devices with their own memory; CPU devices share that of the machine."""
    return 1 if jax.default_backend() == "cpu" else jax.device_count()
