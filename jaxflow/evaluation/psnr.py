"""Peak signal-to-noise ratio: what is lost of an image, in decibels.

PSNR = 10 log10(255^2 / mean squared difference)
"""

import numpy as np
from jaxtyping import Float, UInt8

Images = UInt8[np.ndarray, "n *image"]


def psnr(images: Images, others: Images) -> Float[np.ndarray, " n"]:
    """In dB, for each image; infinite where they are equal.

    >>> psnr(np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)).tolist()
    [0.0]
    """
    squared = [
        np.mean((one.astype(np.float64) - other) ** 2) for one, other in zip(images, others, strict=True)
    ]
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / np.array(squared))
