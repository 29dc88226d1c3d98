"""A picture of any common format as a square image.

It becomes what one sees of it: turned as the camera noted (EXIF), on white where it is transparent, in RGB of
8 bits (colour profiles are ignored), of a film the first frame; then its central square, brought to
size x size with antialiasing (Lanczos).
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What may be in them; Pillow would start other programs for some others."""


def read_picture(file: Path, size: int) -> tuple[UInt8[np.ndarray, "size size 3"], bool]:
    """The image of a picture, and whether it is smaller than that and had to be enlarged.

    Raises:
        ValueError: it cannot be read; the message names it.
    """
    try:
        with Image.open(file, formats=FORMATS) as picture:
            small = min(picture.size) < size
            picture.draft(None, (2 * size, 2 * size))  # a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size
            return np.asarray(_square(_to_rgb(ImageOps.exif_transpose(picture)), size)), small
    except UnidentifiedImageError:
        raise ValueError(
            f"picture {file} cannot be read, it is none of {', '.join(FORMATS)}: remove it or save it anew"
        ) from None
    except Exception as error:  # decoders raise whatever they stumble over, SyntaxError too
        raise ValueError(f"picture {file} cannot be read, {error}: remove it or save it anew") from error


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, np.float64)
        if picture.mode == "F" or not 0 <= grey.min() <= grey.max() < 2**16:
            raise ValueError("it has numbers of 32 bits, not 8 or 16")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _square(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = ((length - side) / 2 for length in picture.size)
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
