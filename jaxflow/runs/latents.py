"""A data set in the latents of a frozen autoencoder: moments of its images, computed once and cached on disk.

A cached folder holds the moments, 16-bit floats, and what is said of each image, so that training reads no
image again. It depends on the data and on the autoencoder.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxflow import progress
from jaxflow.data.cached import filled
from jaxflow.data.dataset import BLOCK, Dataset
from jaxflow.data.mapped import Mapped
from jaxflow.digests import digest
from jaxflow.runs import cache
from jaxflow.spaces import Autoencoder, Latents

Scale = Literal["measured", "published"]
DTYPE = "float16"
LEAST = 1e-6
"""Deviation of a channel that is constant."""
MOMENTS, SAID = "moments.npy", "said.json"


class _Stored:
    """Examples with moments in place of images."""

    def __init__(self, said: Sequence[dict[str, Any]], moments: np.ndarray):
        self.said, self._moments = said, moments

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {**self.said[position], Latents.entry: self._moments[position]}


def with_moments(dataset: Dataset, autoencoder: Autoencoder) -> Dataset:
    """The data set with moments in place of images.

    Raises:
        ValueError: the autoencoder does not take such images, or the moments overflow 16 bits.
    """
    autoencoder.latent_shape(dataset.image_shape)
    source = dataset.source
    if isinstance(source, Mapped) and not source.of_image:  # what is said may be changed later, and otherwise
        inner = with_moments(dataclasses.replace(dataset, source=source.source), autoencoder)
        return dataclasses.replace(inner, source=dataclasses.replace(source, source=inner.source))
    key = digest([dataset.fingerprint, autoencoder.digest, DTYPE])
    folder = filled(cache.directory() / "latents" / key, partial(_write, dataset, autoencoder))
    moments = np.load(folder / MOMENTS, mmap_mode="r")
    said = json.loads((folder / SAID).read_text(encoding="utf-8"))
    return dataclasses.replace(
        dataset,
        source=_Stored(said, moments),
        identity=dataset.fingerprint,
        entry=Latents.entry,
        stored=(moments.shape[1:], DTYPE),
    )


def _write(dataset: Dataset, autoencoder: Autoencoder, folder: Path) -> None:
    n, said = len(dataset), []
    *sides, k = autoencoder.latent_shape(dataset.image_shape)
    shape = (n, *sides, 2 * k if autoencoder.network.variational else k)
    moments = np.lib.format.open_memmap(folder / MOMENTS, "w+", DTYPE, shape)
    for start in progress.over(range(0, n, BLOCK), "encode images", unit="block"):
        # The last block is filled up, so that one program serves all.
        rows = np.arange(start, start + min(BLOCK, n)) % n
        examples = dataset.examples(rows.tolist())
        found = autoencoder.moments(np.stack([example["image"] for example in examples]))
        kept = min(BLOCK, n - start)
        with np.errstate(over="ignore"):
            moments[start : start + kept] = found[:kept]
        if not np.isfinite(moments[start : start + kept]).all():
            raise ValueError(f"autoencoder: its latents of images {start} to {start + kept} overflow {DTYPE}")
        said += [_without_image(example) for example in examples[:kept]]
    moments.flush()
    (folder / SAID).write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")


def _without_image(example: dict[str, Any]) -> dict[str, Any]:
    """Its label or caption."""
    return {
        name: value if isinstance(value, str) else int(value)
        for name, value in example.items()
        if name in ("label", "caption")
    }


def space_of(images: Dataset, autoencoder: Autoencoder, scale: Scale = "measured") -> Latents:
    """The space of an autoencoder's latents.

    Args:
        images: the data set.
        autoencoder: frozen.
        scale: so that each channel has mean 0 and variance 1 over the data set; or as published.

    Raises:
        ValueError: nothing was published; or as `with_moments`.
    """
    if scale == "published":
        try:
            return Latents.as_published(images.image_shape, autoencoder)
        except ValueError as error:
            raise ValueError(f"latent_scale = published: {error}; take --latent-scale measured") from None
    numbers = measured(with_moments(images, autoencoder), autoencoder)
    return Latents(images.image_shape, autoencoder, *numbers, autoencoder.digest)


def measured(dataset: Dataset, autoencoder: Autoencoder) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over a data set of moments.

    The variance of a channel is that of its means and the mean of its variances.
    """
    k, variational = autoencoder.network.latent_channels, autoencoder.network.variational
    sums = np.zeros((3, k))
    for start in range(0, len(dataset), BLOCK):
        examples = dataset.examples(range(start, min(start + BLOCK, len(dataset))))
        block = np.concatenate(
            [example[Latents.entry].reshape(-1, k * (1 + variational)) for example in examples]
        )
        mean, variance = block[:, :k].astype(np.float64), np.exp(block[:, k:], dtype=np.float64)
        squares = mean**2 + (variance if variational else 0)
        sums += np.stack([np.full(k, len(mean)), mean.sum(axis=0), squares.sum(axis=0)])
    mean, square = sums[1:] / sums[0]
    deviation = np.sqrt(np.maximum(square - mean**2, LEAST**2))
    return tuple(mean.tolist()), tuple(deviation.tolist())
