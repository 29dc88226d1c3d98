"""Words of a caption, in any script."""

import re
import unicodedata
from functools import cache

WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Japanese and Chinese
)
"""Letters of scripts without spaces between words."""
JOINERS = "\u200c\u200d"
EMOJI_MARKS = "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
"""Skin tones, and the letters in the flags of regions."""
FLAG_LETTERS = "\U0001f1e6-\U0001f1ff"
"""Two of these form the flag of a country."""
WIDE = re.compile("[\uff01-\uffe6]+")
"""Full-width Latin and half-width Japanese and Korean letters."""

SPACES = dict.fromkeys(map(ord, "\u0f0b\u0f0c\u1361\u200b"), " ")
"""Word separators: Tibetan, Ethiopic, and the zero-width space."""
INVISIBLE = dict.fromkeys(
    (0xAD, 0x200E, 0x200F, 0x61C, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF), ""
)
"""Soft hyphens, and marks of direction and order."""


def split(caption: str) -> list[str]:
    """Words and symbols of a caption, in lower case, with composed accents.

    A mark belongs to the letter before it, and an emoji is one sign. In scripts without spaces each letter is
    a word.

    >>> split("A red circle, left.")
    ['a', 'red', 'circle', ',', 'left', '.']
    >>> split("红色的猫")
    ['红', '色', '的', '猫']
    """
    if caption.isascii():
        return re.findall(r"\w+|[^\w\s]", caption.lower())
    text = caption.translate(SPACES | INVISIBLE)
    text = WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    return _words().findall(unicodedata.normalize("NFC", text.lower()))


@cache
def _words() -> re.Pattern[str]:
    signs = map(chr, (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)))  # all marks are among these
    marks = (
        "".join(sign for sign in signs if unicodedata.category(sign).startswith("M")) + JOINERS + EMOJI_MARKS
    )
    letter = rf"(?:(?![{WITHOUT_SPACES}])\w)"
    emoji = rf"[^\w\s{marks}][{marks}]*(?:(?<=\u200d)[^\w\s{marks}][{marks}]*)*"
    # A mark without a letter before it is skipped.
    return re.compile(rf"{letter}(?:{letter}|[{marks}])*|\w[{marks}]*|[{FLAG_LETTERS}]{{2}}|{emoji}")
