"""What an autoencoder loses: real images against the same decoded from their latents.

    python -m experiments.benchmarks.reconstruction PLACE --dataset emoji --image-size 64 128

Median and lowest peak signal-to-noise ratio, in dB, over images from all of the split.
"""

from dataclasses import dataclass

import numpy as np
import tyro

from experiments.cli import refusing, script
from experiments.report.tables import print_table
from jaxflow import load_autoencoder, ranges
from jaxflow.data.datasets import open_dataset
from jaxflow.devices.blocks import in_blocks
from jaxflow.evaluation.psnr import psnr

BLOCK = 16


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    place: tyro.conf.Positional[str]
    """A folder of published weights, or a run."""
    dataset: str = "emoji"
    """Name of the data set."""
    split: str = "train"
    """Its split."""
    data_dir: str | None = None
    """Folder of the prepared data sets, or of the images."""
    image_size: tuple[int, ...] | None = None
    """Sides of the images, where they are resized."""
    images: int = 48
    """Number of images."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.reconstruction")
    rows = []
    with refusing():
        ranges.at_least(1, images=arguments.images)
        autoencoder = load_autoencoder(arguments.place)
        for size in arguments.image_size or (None,):
            data = open_dataset(arguments.dataset, arguments.split, arguments.data_dir, image_size=size)
            autoencoder.latent_shape(data.image_shape)
            rows.append((data, np.linspace(0, len(data) - 1, min(arguments.images, len(data))).astype(int)))
    table = []
    for data, positions in rows:
        images = np.stack([example["image"] for example in data.examples(positions.tolist())])
        pass_through = lambda block: autoencoder.decode(autoencoder.encode(block))  # noqa: E731
        decoded = in_blocks(pass_through, images, size=BLOCK, name="decode")
        found = psnr(images, decoded)
        figures = {
            "images": len(images),
            "median PSNR": float(np.median(found)),
            "lowest": float(found.min()),
        }
        table.append((" x ".join(map(str, data.image_shape)), figures))
    print_table("images of", ("images", "median PSNR", "lowest"), table)


if __name__ == "__main__":
    script(main)
