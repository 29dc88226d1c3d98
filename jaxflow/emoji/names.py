"""Names of emoji: the figure and its skin tone; and which pairs of both are held out.

Of half of the figures that have skin tones, one tone is held out, a tenth of all pairs. Such a figure occurs
in training with its other tones, and the tone with other figures.
"""

import re
from collections.abc import Iterable, Iterator

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
TONE = re.compile(rf"\s*\b({'|'.join(TONES)}) skin tone")


def all_names() -> Iterator[tuple[str, str]]:
    """Every emoji with its English name, in Unicode's order of names."""
    import emoji

    whole = emoji.STATUS["fully_qualified"]
    for text, known in emoji.EMOJI_DATA.items():
        if known["status"] == whole:
            yield text, known["en"].strip(":").replace("_", " ")


def figure_and_tone(name: str) -> tuple[str, str | None]:
    """The name without its skin tone, and the tone; None where there is none, or there are two.

    >>> figure_and_tone("waving hand medium-dark skin tone")
    ('waving hand', 'medium-dark')
    >>> figure_and_tone("waving hand")
    ('waving hand', None)
    """
    tones = TONE.findall(name)
    return (TONE.sub("", name).strip(), tones[0]) if len(tones) == 1 else (name, None)


def held_out(names: Iterable[str]) -> set[str]:
    """The held-out pairs among the names of a whole set.

    >>> sorted(held_out(f"{figure} {tone} skin tone" for figure in "ab" for tone in TONES))
    ['a light skin tone', 'b medium-light skin tone']
    """
    pairs = {name: figure_and_tone(name) for name in names}
    figures = sorted({figure for figure, tone in pairs.values() if tone is not None})
    number = {figure: i % (2 * len(TONES)) for i, figure in enumerate(figures)}
    return {name for name, (figure, tone) in pairs.items() if tone == _tone(number.get(figure))}


def _tone(number: int | None) -> str:
    return TONES[number] if number is not None and number < len(TONES) else ""
