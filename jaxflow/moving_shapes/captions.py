"""The language of the clips: `caption` describes a scene in words, `parse` returns the claims of a caption.

With optional parts in brackets,

    caption := thing act [and thing act | passing thing] [ground]      thing := a [size] [colour] shape
    act     := stands still | grows | shrinks | moves [left | right | up | down] [speed]
             | bounces [off the (left | right | top | bottom) edge] [speed]
             | circles [clockwise | anticlockwise] [speed]
    speed   := slowly | fast                                           passing := in front of | behind
    ground  := on a (black | white | gray) background | on (black | white | gray)

Only what moves can be passing; nothing is claimed about the motion of what it passes.
"""

from dataclasses import dataclass

from jaxflow.moving_shapes.scenes import CAPTION_STREAM, DIRECTIONS, TURNS, MovingObject, MovingScene
from jaxflow.shapes.captions import GROUNDS, Thing, misplaced, phrase, phrase_thing, take, take_thing
from jaxflow.shapes.scenes import COLOURS, SHAPES, SIZES, Pick, picks

ACTS = {
    "stands still": "stands",
    "moves": "moves",
    "bounces": "bounces",
    "circles": "circles",
    "grows": "grows",
    "shrinks": "shrinks",
}
EDGES = {
    "off the left edge": "left",
    "off the right edge": "right",
    "off the top edge": "up",
    "off the bottom edge": "down",
}
"""Where it moves before it bounces."""
DIRECTED = {
    "moves": {direction: direction for direction in DIRECTIONS},
    "bounces": EDGES,
    "circles": {turn: turn for turn in TURNS},
}
"""The motions that have a direction and a speed, with the words for the direction."""
RATES = {"slowly": "slow", "fast": "fast"}
ORDERS = {"in front of": "front", "behind": "behind"}
"""Where the first object passes the second."""

_PHRASES = (
    "a",
    *SIZES,
    *COLOURS,
    *SHAPES,
    *ACTS,
    *DIRECTIONS,
    *EDGES,
    *TURNS,
    *RATES,
    *ORDERS,
    "and",
    *GROUNDS,
)
WORDS = tuple(dict.fromkeys(word for phrase in _PHRASES for word in phrase.split(" ")))
"""Every word of the language."""
LONGEST = 25
"""Words in the longest caption."""


@dataclass(frozen=True)
class MovingThing(Thing):
    """What a caption claims about an object; None for what it does not mention."""

    motion: str | None = None
    direction: str | None = None
    speed: str | None = None


@dataclass(frozen=True)
class MovingDescription:
    """What a caption claims; None for what it does not mention.

    Attributes:
        objects: the one or two things named, in order; the scene has no others.
        order: where the first passes the second: `front` or `behind`.
        background: one of `BACKGROUNDS`.
    """

    objects: tuple[MovingThing, ...]
    order: str | None
    background: str | None


def caption(scene: MovingScene, choice: int) -> str:
    """A caption that is true of the scene, in lower case, with single spaces between words.

    `choice` determines the order of two objects and what is mentioned: the motion of an object always, but
    for one that another passes; its colour with probability 7/8; if it has them, its size 1/2, its direction
    3/4 and its speed 1/2; the background 1/3; that one object passes another 7/8.

    Args:
        scene: a scene of one or two objects.
        choice: 0 to 2**63 - 1, the seed of the caption.
    """
    pick = picks(CAPTION_STREAM, choice)
    if scene.front is not None and pick(8):
        passing = next(k for k, o in enumerate(scene.objects) if o.motion == "moves")
        first, second = scene.objects[passing], scene.objects[1 - passing]
        order = phrase(ORDERS, "front" if scene.front == passing else "behind", pick)
        parts = [_named(first, pick), _act(first, pick), order, _named(second, pick)]
    else:
        objects = scene.objects[::-1] if pick(2) else scene.objects
        parts = [" and ".join(f"{_named(o, pick)} {_act(o, pick)}" for o in objects)]
    if not pick(3):
        parts.append(phrase(GROUNDS, scene.background, pick))
    return " ".join(parts)


def parse(caption: str) -> MovingDescription:
    """What a caption claims.

    Raises:
        ValueError: the caption is not in the language; the message names the word and its position.

    >>> parse("a red circle moves right in front of a blue square").order
    'front'
    """
    rest = caption.split(" ")
    for number, word in enumerate(rest, 1):
        if word not in WORDS:
            known = " ".join(WORDS)
            raise ValueError(
                f"caption {caption!r}: word {number}, {word!r}, is not in the vocabulary; use {known}"
            )
    things, order = [_take_moving(rest, caption)], None
    if take(rest, {"and": "and"}):
        things.append(_take_moving(rest, caption))
    elif things[0].motion == "moves" and (order := take(rest, ORDERS)):
        things.append(MovingThing(**vars(take_thing(rest, caption))))
    background = take(rest, GROUNDS)
    if rest:
        raise misplaced(rest, caption, "the end, or a phrase that fits")
    return MovingDescription(tuple(things), order, background)


def _named(o: MovingObject, pick: Pick) -> str:
    return phrase_thing(Thing(o.shape, o.colour, o.size), pick)


def _act(o: MovingObject, pick: Pick) -> str:
    parts = [phrase(ACTS, o.motion, pick)]
    if o.motion in DIRECTED:
        if pick(4):
            parts.append(phrase(DIRECTED[o.motion], o.direction, pick))
        if pick(2):
            parts.append(phrase(RATES, o.speed, pick))
    return " ".join(parts)


def _take_moving(rest: list[str], caption: str) -> MovingThing:
    thing, motion = take_thing(rest, caption), take(rest, ACTS)
    if motion is None:
        raise misplaced(rest, caption, f"one of {', '.join(ACTS)}")
    if motion not in DIRECTED:
        return MovingThing(**vars(thing), motion=motion)
    direction, speed = take(rest, DIRECTED[motion]), take(rest, RATES)
    return MovingThing(**vars(thing), motion=motion, direction=direction, speed=speed)
