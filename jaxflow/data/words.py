"""Words of a caption, in any script."""

import re
import unicodedata
from functools import cache

WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Japanese and Chinese
)
"""Letters of the scripts that write words without spaces between them."""


def split(caption: str) -> list[str]:
    """Words and signs of a caption, in lower case, their accents composed.

    A mark belongs to the letter before it. In scripts without spaces each letter is a word.

    >>> split("A red circle, left.")
    ['a', 'red', 'circle', ',', 'left', '.']
    >>> split("红色的猫")
    ['红', '色', '的', '猫']
    """
    text = unicodedata.normalize("NFC", caption.lower())
    return re.findall(r"\w+|[^\w\s]", text) if text.isascii() else _words().findall(text)


@cache
def _words() -> re.Pattern[str]:
    signs = map(chr, range(0x300, 0x110000))  # there is no mark below
    marks = "".join(sign for sign in signs if unicodedata.category(sign).startswith("M")) + "\u200c\u200d"
    letter = rf"(?:(?![{WITHOUT_SPACES}])\w)"
    return re.compile(rf"{letter}(?:{letter}|[{marks}])*|\w[{marks}]*|[^\w\s][{marks}]*")
