"""User-written names and texts, made safe for messages: one short, printable line."""

import unicodedata

MOST_SHOWN = 80
"""Characters of a name in a message."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, lone surrogates, line and paragraph separators.

Python reads the bytes of a file's name that are not UTF-8 as lone surrogates."""


def printable(text: str) -> bool:
    """Whether the text is one line of valid Unicode."""
    return not any(unicodedata.category(sign) in UNPRINTABLE for sign in text)


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """The text for a message: long ones are shortened in the middle, unprintable characters escaped.

    >>> shown("a\\nb"), shown("x" * 30, most=9)
    ('a\\\\nb', 'xxx...xxx')
    """
    text = str(text)
    if len(text) > most:
        head = (most - 3) // 2
        text = f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"
    return "".join(sign if printable(sign) else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()
