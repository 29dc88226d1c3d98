"""A colour emoji font of the machine, drawn by Pillow."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

VARIABLE = "EMOJI_FONT"
"""Environment variable that names the font's file."""
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
NAMES = ("NotoColorEmoji.ttf", "NotoColorEmoji-Regular.ttf")
ELSEWHERE = ("/System/Library/Fonts/Apple Color Emoji.ttc", "C:/Windows/Fonts/seguiemj.ttf")
SIZES = (109, 160, 136, 128, 96)
"""Of fonts of bitmaps, which have one size or a few; others have any."""
REMEDY = (
    "apt install fonts-noto-color-emoji on Debian, dnf install google-noto-color-emoji-fonts on Fedora; macOS"
    f" has one; or name the file of any by {VARIABLE}"
)
EXAMPLE = "\N{GRINNING FACE}"


def find() -> Path:
    """The file that the environment variable names, or the first of the usual places.

    Raises:
        FileNotFoundError: there is none; the message says how to get one.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(
                f"{VARIABLE} = {named}: there is no such file; name that of a colour font"
            )
        return Path(named)
    folders = [Path(folder).expanduser() for folder in FOLDERS if not folder.startswith("~") or _home()]
    found = [file for folder in folders for name in NAMES for file in sorted(folder.rglob(name))]
    found += [file for file in map(Path, ELSEWHERE) if file.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no colour emoji font: {REMEDY}")
    return found[0]


def _home() -> bool:
    try:
        return bool(Path.home())
    except RuntimeError:
        return False


class Font:
    """A font whose emoji are drawn in squares, on white.

    Raises:
        ValueError: the file is no font, Pillow cannot draw its colours, or joins no emoji of several signs.
    """

    def __init__(self, file: Path):
        self._font = _opened(file)
        self._length = self._font.getlength(EXAMPLE)
        picture = self.draw(EXAMPLE)
        if picture is None or not np.ptp(picture, axis=2).any():
            raise ValueError(f"font {file}: Pillow draws it without colours; take another: {REMEDY}")

    def draw(self, text: str) -> UInt8[np.ndarray, "side side 3"] | None:
        """The picture of an emoji; None where the font has none, or only several side by side."""
        if self._font.getlength(text) != self._length:
            return None
        left, top, right, bottom = map(round, self._font.getbbox(EXAMPLE))
        side = max(right - left, bottom - top)
        corner = ((side - right - left) // 2, (side - bottom - top) // 2)
        canvas = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(canvas).text(corner, text, font=self._font, embedded_color=True)
        picture = np.asarray(canvas)
        return None if (picture == 255).all() else picture


def _opened(file: Path) -> ImageFont.FreeTypeFont:
    for size in SIZES:
        try:
            return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.RAQM)
        except OSError as error:
            reason = str(error)
    raise ValueError(f"font {file} cannot be opened, {reason}; take another: {REMEDY}")
