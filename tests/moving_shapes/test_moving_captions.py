from functools import cache

import pytest
from conftest import assert_expected

from jaxflow.moving_shapes import scenes
from jaxflow.moving_shapes.captions import LONGEST, WORDS, MovingDescription, MovingThing, caption, parse

scene = cache(scenes.scene)
COUNTS = {"train": 300, "test": 30, "held_out": 150}
ATTRIBUTES = ("shape", "colour", "size", "motion", "direction", "speed")


def is_true(claim, s):
    """Independent of the library's own judgement."""
    for objects in (s.objects, s.objects[::-1]):
        agree = all(
            getattr(thing, attribute) in (None, getattr(o, attribute))
            for thing, o in zip(claim.objects, objects, strict=True)
            for attribute in ATTRIBUTES
        )
        in_front = None if s.front is None else s.objects[s.front]
        order = claim.order is None or in_front == objects[0 if claim.order == "front" else 1]
        if agree and order and claim.background in (None, s.background):
            return True
    return False


def test_captions_are_true_of_their_scenes():
    for s in (scene(i, split) for split, count in COUNTS.items() for i in range(count)):
        for choice in (*range(4), 2**62):
            assert is_true(parse(caption(s, choice)), s), caption(s, choice)


def test_what_captions_mention_and_omit():
    many = [(s := scene(i), parse(caption(s, i))) for i in range(1000)]
    passing = [d for s, d in many if s.front is not None]
    assert_expected([d.order is not None for d in passing], 7 / 8, 6)
    moving = [d.objects[0] for s, d in many if len(s.objects) == 1 and s.objects[0].direction]
    mentions = [[o.size, o.colour, o.direction, o.speed] for o in moving]
    assert_expected([[x is not None for x in each] for each in mentions], [1 / 2, 7 / 8, 3 / 4, 1 / 2], 6)
    assert_expected([d.background is not None for _, d in many], 1 / 3, 6)


def test_the_vocabulary_is_closed_and_every_word_is_used():
    captions = [caption(scene(i), i) for i in range(1000)]
    assert {word for c in captions for word in c.split(" ")} == set(WORDS)
    longest = (
        "a large red circle bounces off the left edge slowly and a small blue square bounces off the right"
        " edge fast on a white background"
    )
    assert parse(longest)
    assert max(len(c.split(" ")) for c in (*captions, longest)) == LONGEST


def test_parse_returns_the_claims_of_a_caption():
    assert parse("a large red circle moves left fast behind a square on black") == MovingDescription(
        (MovingThing("circle", "red", "large", "moves", "left", "fast"), MovingThing("square", None, None)),
        "behind",
        "black",
    )
    assert parse("a cross stands still and a cyan triangle circles clockwise slowly") == MovingDescription(
        (
            MovingThing("cross", None, None, "stands"),
            MovingThing("triangle", "cyan", None, "circles", "clockwise", "slow"),
        ),
        None,
        None,
    )
    bounce = parse("a circle bounces off the bottom edge on a gray background")
    assert bounce == MovingDescription((MovingThing("circle", None, None, "bounces", "down"),), None, "gray")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red circle jumps", r"word 4, 'jumps', is not in the vocabulary"),
        ("a red  circle grows", r"word 3, '', is not in the vocabulary"),
        ("a red circle", r"word 4 is the end, expected one of stands still"),
        ("a red moves", r"word 3 is 'moves', expected .* shape"),
        ("a circle grows fast", r"word 4 is 'fast', expected the end"),
        ("a circle moves clockwise", r"word 4 is 'clockwise'"),
        ("a circle moves fast left", r"word 5 is 'left'"),
        ("a circle stands still in front of a cross", r"word 5 is 'in'"),
        ("a circle moves behind a cross grows", r"word 7 is 'grows'"),
        ("a circle grows and a cross", r"word 7 is the end"),
    ],
)
def test_captions_outside_the_language_are_rejected(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)
