"""An image file of any common format as an array.

It is decoded as a viewer would show it: rotated by its EXIF orientation, on a white background, in 8-bit RGB
(colour profiles are ignored), the first frame of an animation; then center-cropped to the proportions wanted
and resized with antialiasing (Lanczos).
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxflow.data.names import shown
from jaxflow.places import Place

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Formats that are decoded; for some others Pillow would start external programs."""
MOST_SHOWN = 120
"""Most characters of a path, and of a decoder's error, in a message."""


def read_picture(file: Place, height: int, width: int) -> tuple[UInt8[np.ndarray, "h w 3"], bool]:
    """Decode an image, and say whether it was smaller than that and had to be enlarged.

    Raises:
        ValueError: it cannot be decoded; the message names it.
    """
    try:
        side = max(height, width)
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as picture:
            small = picture.width < width or picture.height < height
            picture.draft(None, (2 * side, 2 * side))  # JPEGs can be decoded at 1/2, 1/4 or 1/8 of their size
            upright = to_rgb(ImageOps.exif_transpose(picture))
            return np.asarray(fitted(upright, height, width)), small
    except UnidentifiedImageError:
        raise _unreadable(file, f"it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise all kinds of exceptions, SyntaxError too
        reason = getattr(error, "strerror", None) or error  # without the path once more
        raise _unreadable(file, shown(reason, MOST_SHOWN)) from error


def _unreadable(file: Place, reason: str) -> ValueError:
    return ValueError(
        f"picture {shown(file, MOST_SHOWN)} cannot be read, {reason}: remove it or save it again"
    )


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB, on white.

    Raises:
        ValueError: it has numbers of 32 bits.
    """
    if picture.mode in ("I", "F"):  # where white could be any number
        raise ValueError("it has numbers of 32 bits, expected 8 or 16")
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture, np.float64)
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def fitted(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The largest part around the centre that has these proportions, resized."""
    scale = min(picture.width / width, picture.height / height)
    columns, rows = min(scale * width, picture.width), min(scale * height, picture.height)
    left, top = (picture.width - columns) / 2, (picture.height - rows) / 2
    box = (left, top, left + columns, top + rows)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
