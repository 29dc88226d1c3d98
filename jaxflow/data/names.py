"""User-written names and texts: one short, printable line for messages, narrow lines for figures."""

import textwrap
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


def display_width(text: str) -> int:
    """Columns of the text: wide characters, as those of Chinese, take two (Unicode's annex 11)."""
    return sum(1 + _wide(sign) for sign in text)


def wrapped(text: str, columns: int, most: int | None = None) -> list[str]:
    """The text in lines of at most so many columns; beyond `most` lines it ends in dots.

    Lines break at spaces, and between wide characters, since Chinese and Japanese put no spaces between
    words; but not before a comma or a closing bracket, nor after an opening one.

    >>> wrapped("red circle 红色圆形", 11), wrapped("红色，圆形", 7, most=1)
    (['red circle', '红色圆形'], ['红 ...'])
    """
    text = " ".join(text.split())
    # textwrap counts characters: a second one makes a wide one, a vertical tab where a line may break.
    spaced = "".join(
        sign + ("\v" if _may_break(sign, after) else "\0") * _wide(sign)
        for sign, after in zip(text, f"{text[1:]} ", strict=False)
    )
    columns -= spaced != text  # at the end of a line the tab is dropped, and not counted
    rows = textwrap.wrap(spaced, columns, max_lines=most, placeholder=" ...", replace_whitespace=False)
    return [row.translate({ord("\v"): None, 0: None}) for row in rows]


def _wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in "WF"


def _may_break(sign: str, after: str) -> bool:
    opening = unicodedata.category(sign) in ("Ps", "Pi")
    return not opening and unicodedata.category(after) not in ("Pe", "Pf", "Po")


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()
