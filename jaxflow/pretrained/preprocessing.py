"""How a published encoder wants its images, from the preprocessor_config.json in its folder.

An image is resized by Pillow, as 8-bit integers and with antialiasing, so that its shorter side has the
size; the square around its centre is kept; and each channel is shifted and scaled. This is what the image
processors of `transformers` do that use Pillow; those that use torchvision round differently.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxflow.pretrained.folders import read_json
from jaxflow.ranges import quoted

FILE = "preprocessor_config.json"
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
MOST = 4096
"""Pixels on a side."""


@dataclass(frozen=True)
class Preprocessing:
    """Images -> inputs of an encoder.

    Attributes:
        shorter: the shorter side after resizing, in pixels.
        side: of the square that is kept; at most `shorter`.
        mean: of each channel, which is subtracted; images are in [0, 1].
        deviation: of each channel, which divides.
        filter: of the resizing.
    """

    shorter: int
    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    filter: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n side side 3"]:
        """The inputs for images of one channel or three."""
        colour = np.broadcast_to(images, (*images.shape[:3], 3))
        cropped = np.stack([self._cropped(image) for image in colour])
        mean, deviation = (np.array(each, np.float32) for each in (self.mean, self.deviation))
        return (cropped.astype(np.float32) / np.float32(255) - mean) / deviation

    def _cropped(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
        h, w = (int(self.shorter * n / min(image.shape[:2])) for n in image.shape[:2])
        resized = Image.fromarray(np.ascontiguousarray(image)).resize((w, h), self.filter)
        top, left = (h - self.side) // 2, (w - self.side) // 2
        return np.asarray(resized)[top : top + self.side, left : left + self.side]


def read(folder: Path) -> Preprocessing:
    """The preprocessing of an encoder in a folder.

    Raises:
        FileNotFoundError: the folder has no preprocessor_config.json.
        ValueError: the file has something else than these steps; the message names it.
    """
    file = folder / FILE
    config = read_json(file)
    for step in STEPS:
        if config.get(step, True) is not True:
            raise ValueError(f"{file}: {step} = {quoted(config[step])}: must be true")
    factor = config.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or abs(255 * factor - 1) > 1e-6:
        raise ValueError(f"{file}: rescale_factor = {quoted(factor)}: must be 1 / 255")
    size, crop = config.get("size"), config.get("crop_size")
    shorter = _pixels(file, "size", size.get("shortest_edge") if isinstance(size, dict) else size)
    sides = {crop.get("height"), crop.get("width")} if isinstance(crop, dict) else {crop}
    side = _pixels(file, "crop_size", sides.pop() if len(sides) == 1 else crop)
    if side > shorter:
        raise ValueError(f"{file}: crop_size = {side}: must be at most size = {shorter}")
    try:
        chosen = Image.Resampling(config.get("resample", Image.Resampling.BICUBIC))
    except ValueError:
        raise ValueError(f"{file}: resample = {quoted(config['resample'])}: must be from 0 to 5") from None
    mean, deviation = (_channels(file, name, config.get(name)) for name in ("image_mean", "image_std"))
    if min(deviation) <= 0:
        raise ValueError(f"{file}: image_std = {quoted(list(deviation))}: must be positive")
    return Preprocessing(shorter, side, mean, deviation, chosen)


def _pixels(file: Path, name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MOST:
        raise ValueError(
            f"{file}: {name} = {quoted(value)}: expected a side from 1 to {MOST}, for size the shortest_edge"
        )
    return value


def _channels(file: Path, name: str, value: Any) -> tuple[float, ...]:
    of_numbers = isinstance(value, list) and all(type(each) in (int, float) for each in value)
    if not of_numbers or len(value) != 3 or not np.isfinite(value).all():
        raise ValueError(f"{file}: {name} = {quoted(value)}: expected three numbers")
    return tuple(map(float, value))
