import numpy as np
import pytest
from conftest import assert_expected

from jaxflow.shapes.captions import LONGEST, RELATIONS, WORDS, Description, Thing, caption, parse
from jaxflow.shapes.scenes import SPLITS, Object, Scene, scene


def agrees(thing: Thing, o: Object) -> bool:
    return thing.shape == o.shape and thing.colour in (None, o.colour) and thing.size in (None, o.size)


def is_true(claim: Description, s: Scene) -> bool:
    """Independent of the library's own judgement: positions are compared as numbers."""
    orders = [s.objects, s.objects[::-1]]
    for objects in orders:
        rows, columns = np.transpose([o.centre for o in objects])
        if claim.relation:
            (row, column), other = (rows[0] - rows[1], columns[0] - columns[1]), 1.25
            holds = {
                "left": -column > other * abs(row),
                "right": column > other * abs(row),
                "up": -row > other * abs(column),
                "down": row > other * abs(column),
            }[claim.relation]
        elif claim.place:
            row, column = rows[0] - 16, columns[0] - 16
            holds = {
                "left": column <= -6,
                "right": column >= 6,
                "up": row <= -6,
                "down": row >= 6,
                "middle": max(abs(row), abs(column)) <= 2,
            }[claim.place]
        else:
            holds = True
        if holds and all(agrees(thing, o) for thing, o in zip(claim.objects, objects, strict=True)):
            return claim.background in (None, s.background)
    return False


def test_captions_are_true_of_their_scenes():
    many = [(i, split) for split in SPLITS for i in (*range(700), *range(2**63 - 100, 2**63))]
    for i, s in enumerate(scene(*which) for which in many):
        for choice in (i, i + 10**6, 2**62 + i):
            assert is_true(parse(caption(s, choice)), s), caption(s, choice)


def test_what_captions_mention_and_omit():
    two = [parse(caption(s, i)) for i in range(4000) if len((s := scene(i)).objects) == 2]
    assert_expected([d.objects[0].size is not None for d in two], 1 / 2, 6)
    assert_expected([d.objects[1].colour is not None for d in two], 7 / 8, 6)
    assert_expected([d.background is not None for d in two], 1 / 3, 6)
    assert_expected(
        [[d.relation == r for r in (None, "left", "right", "up", "down")] for d in two],
        [1 / 6] + [5 / 24] * 4,
        6,
    )


def test_the_vocabulary_is_closed_and_every_word_is_used():
    captions = [caption(scene(i), i) for i in range(4000)]
    assert {word for c in captions for word in c.split(" ")} == set(WORDS)
    assert len(set(WORDS)) == len(WORDS)
    assert max(len(c.split(" ")) for c in captions) <= LONGEST
    longest = "a large red circle to the left of a small blue square on a white background"
    assert parse(longest)
    assert len(longest.split(" ")) == LONGEST


def test_parse_returns_the_claims_of_a_caption():
    assert parse("a large red circle to the left of a square on black") == Description(
        (Thing("circle", "red", "large"), Thing("square", None, None)), "left", None, "black"
    )
    assert parse("a cyan cross at the top on a gray background") == Description(
        (Thing("cross", "cyan", None),), None, "up", "gray"
    )
    assert parse("a small circle and a triangle") == Description(
        (Thing("circle", None, "small"), Thing("triangle", None, None)), None, None, None
    )
    said = {"left of": "left", "to the left of": "left", "right of": "right", "to the right of": "right"}
    said |= {"above": "up", "over": "up", "below": "down", "under": "down"}
    assert set(said) == set(RELATIONS)
    for phrase, meaning in said.items():
        assert parse(f"a circle {phrase} a cross").relation == meaning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a pink circle", r"'pink' is not in the vocabulary"),
        ("A red circle", r"'A' is not in the vocabulary"),
        ("a red  circle", r"'' is not in the vocabulary"),
        ("", r"'' is not in the vocabulary"),
        ("red circle", r"word 1 is 'red', expected a"),
        ("a red", r"word 3 is the end, expected .* shape"),
        ("a circle red", r"word 3 is 'red', expected the end"),
        ("a circle left a square", r"word 3 is 'left'"),
        ("a circle left of square", r"word 5 is 'square', expected a"),
        ("a circle left of a square in the middle", r"word 7 is 'in'"),
        ("a circle and a cross and a square", r"word 6 is 'and'"),
    ],
)
def test_captions_outside_the_language_are_rejected(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)
