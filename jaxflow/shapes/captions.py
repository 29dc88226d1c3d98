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
    parts = [phrase_thing(objects[0], pick)]
    if len(objects) == 2:
        joint = phrase(RELATIONS, relation(*objects), pick) if pick(6) else "and"
        parts += [joint, phrase_thing(objects[1], pick)]
    elif pick(2):
        parts.append(phrase(PLACES, place(objects[0]), pick))
    if not pick(3):
        parts.append(phrase(GROUNDS, scene.background, pick))
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
    things, where = [take_thing(rest, caption)], None
    joint = take(rest, RELATIONS | {"and": "and"})
    if joint:
        things.append(take_thing(rest, caption))
    else:
        where = take(rest, PLACES)
    background = take(rest, GROUNDS)
    if rest:
        raise misplaced(rest, caption, "the end, or a phrase that fits")
    return Description(tuple(things), None if joint == "and" else joint, where, background)


def take_thing(rest: list[str], caption: str) -> Thing:
    """Remove a thing from the beginning of `rest`, the end of `caption`."""
    if not take(rest, {"a": "a"}):
        raise misplaced(rest, caption, "a")
    size, colour, shape = (take(rest, {w: w for w in words}) for words in (SIZES, COLOURS, SHAPES))
    if not shape:
        raise misplaced(rest, caption, "[size] [colour] shape")
    return Thing(shape, colour, size)


def take(rest: list[str], phrases: Mapping[str, str]) -> str | None:
    """Remove a phrase from the beginning of `rest` and return its meaning; None if there is none."""
    for phrase, meaning in phrases.items():
        words = phrase.split(" ")
        if rest[: len(words)] == words:
            del rest[: len(words)]
            return meaning
    return None


def misplaced(rest: list[str], caption: str, expected: str) -> ValueError:
    """The error that names the first word of `rest`, the end of `caption`, and its position."""
    number = len(caption.split(" ")) - len(rest) + 1
    found = repr(rest[0]) if rest else "the end"
    return ValueError(f"caption {caption!r}: word {number} is {found}, expected {expected}")


def phrase_thing(o: Object | Thing, pick: Pick) -> str:
    """A thing, with its size with probability 1/2 and its colour 7/8, if it has them."""
    size, colour = o.size if pick(2) else None, o.colour if pick(8) else None
    return " ".join(word for word in ("a", size, colour, o.shape) if word)


def phrase(phrases: Mapping[str, str], meaning: str | None, pick: Pick) -> str:
    """A random one of the phrases with this meaning."""
    fitting = [phrase for phrase, its in phrases.items() if its == meaning]
    return fitting[pick(len(fitting))]
