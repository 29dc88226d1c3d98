"""The language of the scenes: `caption` describes a scene in words, `parse` returns the claims of a caption.

With optional parts in brackets,

    caption := thing [joint thing | place] [ground]      thing := a [size] [colour] shape
    joint   := left of | to the left of | right of | to the right of | above | over | below | under | and
    place   := on the left | on the right | at the top | at the bottom | in the middle
    ground  := on a (black | white | gray) background | on (black | white | gray)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxflow.shapes.scenes import (
    BACKGROUNDS,
    CAPTION_STREAM,
    COLOURS,
    SHAPES,
    SIZES,
    Object,
    Pick,
    Scene,
    picks,
    place,
    relation,
)

RELATIONS = {
    "left of": "left",
    "to the left of": "left",
    "right of": "right",
    "to the right of": "right",
    "above": "up",
    "over": "up",
    "below": "down",
    "under": "down",
}
"""Where the first object is, relative to the second."""
PLACES = {
    "on the left": "left",
    "on the right": "right",
    "at the top": "up",
    "at the bottom": "down",
    "in the middle": "middle",
}
"""Where the only object is in the image."""
GROUNDS = {f"on a {name} background": name for name in BACKGROUNDS} | {
    f"on {name}": name for name in BACKGROUNDS
}

WORDS = tuple(
    dict.fromkeys(
        word
        for phrase in ("a", *SIZES, *COLOURS, *SHAPES, *RELATIONS, "and", *PLACES, *GROUNDS)
        for word in phrase.split(" ")
    )
)
"""Every word of the language."""
LONGEST = 16
"""Words in the longest caption."""


@dataclass(frozen=True)
class Thing:
    """What a caption claims about an object; None for what it does not mention."""

    shape: str
    colour: str | None
    size: str | None


@dataclass(frozen=True)
class Description:
    """What a caption claims; None for what it does not mention.

    Attributes:
        objects: the one or two things named, in order; the scene has no others.
        relation: where the first is, relative to the second: left, right, up or down.
        place: where the only one is in the image: left, right, up, down or middle.
        background: one of `BACKGROUNDS`.
    """

    objects: tuple[Thing, ...]
    relation: str | None
    place: str | None
    background: str | None


def caption(scene: Scene, choice: int) -> str:
    """A caption that is true of the scene, in lower case, with single spaces between words.

    `choice` determines the wording, the order of two objects and what is mentioned: the size of an object
    with probability 1/2, its colour 7/8, the background 1/3, the place of a single object 1/2, the relation
    of two objects 5/6.

    Args:
        scene: a scene of one or two objects.
        choice: 0 to 2**63 - 1, the seed of the caption.
    """
    pick = picks(CAPTION_STREAM, choice)
    objects = scene.objects[::-1] if pick(2) else scene.objects
    parts = [_phrase_thing(objects[0], pick)]
    if len(objects) == 2:
        joint = _phrase(RELATIONS, relation(*objects), pick) if pick(6) else "and"
        parts += [joint, _phrase_thing(objects[1], pick)]
    elif pick(2):
        parts.append(_phrase(PLACES, place(objects[0]), pick))
    if not pick(3):
        parts.append(_phrase(GROUNDS, scene.background, pick))
    return " ".join(parts)


def parse(caption: str) -> Description:
    """What a caption claims.

    Raises:
        ValueError: the caption is not in the language; the message names the word and its position.

    >>> parse("a large red circle left of a square").relation
    'left'
    """
    rest = caption.split(" ")
    for word in rest:
        if word not in WORDS:
            raise ValueError(f"caption {caption!r}: {word!r} is not in the vocabulary; use {' '.join(WORDS)}")
    things, where = [_take_thing(rest, caption)], None
    joint = _take(rest, RELATIONS | {"and": "and"})
    if joint:
        things.append(_take_thing(rest, caption))
    else:
        where = _take(rest, PLACES)
    background = _take(rest, GROUNDS)
    if rest:
        raise _misplaced(rest, caption, "the end, or a phrase that fits")
    return Description(tuple(things), None if joint == "and" else joint, where, background)


def _take_thing(rest: list[str], caption: str) -> Thing:
    if not _take(rest, {"a": "a"}):
        raise _misplaced(rest, caption, "a")
    size, colour, shape = (_take(rest, {w: w for w in words}) for words in (SIZES, COLOURS, SHAPES))
    if not shape:
        raise _misplaced(rest, caption, "[size] [colour] shape")
    return Thing(shape, colour, size)


def _take(rest: list[str], phrases: Mapping[str, str]) -> str | None:
    """Remove a phrase from the beginning of `rest` and return its meaning; None if there is none."""
    for phrase, meaning in phrases.items():
        words = phrase.split(" ")
        if rest[: len(words)] == words:
            del rest[: len(words)]
            return meaning
    return None


def _misplaced(rest: list[str], caption: str, expected: str) -> ValueError:
    number = len(caption.split(" ")) - len(rest) + 1
    found = repr(rest[0]) if rest else "the end"
    return ValueError(f"caption {caption!r}: word {number} is {found}, expected {expected}")


def _phrase_thing(o: Object, pick: Pick) -> str:
    size, colour = pick(2), pick(8)
    return " ".join(["a"] + [o.size] * bool(size) + [o.colour] * bool(colour) + [o.shape])


def _phrase(phrases: Mapping[str, str], meaning: str | None, pick: Pick) -> str:
    fitting = [phrase for phrase, its in phrases.items() if its == meaning]
    return fitting[pick(len(fitting))]
