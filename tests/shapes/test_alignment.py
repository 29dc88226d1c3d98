from dataclasses import replace

import numpy as np
import pytest

from jaxflow.shapes.alignment import alignment
from jaxflow.shapes.captions import PLACES, RELATIONS, caption
from jaxflow.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    SPLITS,
    Object,
    Scene,
    draw,
    place,
    relation,
    scene,
)

RED = Object("circle", "red", "large", (16.0, 8.0), 6.0)
BLUE = Object("square", "blue", "small", (16.0, 24.0), 3.5)
TRUE = Scene((RED, BLUE), "white")
SENTENCE = "a large red circle left of a small blue square on white"


def figures(pairs):
    scenes, captions = zip(*pairs, strict=True)
    return alignment(np.stack([draw(s) for s in scenes]), captions)


def test_true_captions_are_all_true():
    found = figures([(s := scene(i, split), caption(s, i)) for split in SPLITS for i in range(200)])
    assert found == dict.fromkeys(found, 1.0)
    assert set(found) == {
        "objects",
        "shape",
        "colour",
        "size",
        "relation",
        "place",
        "background",
        "binding",
        "all",
    }


def told(s):
    """The caption that says everything about a scene."""
    things = [f"a {o.size} {o.colour} {o.shape}" for o in s.objects]
    if len(things) == 2:
        where = next(p for p, meaning in RELATIONS.items() if meaning == relation(*s.objects))
        return f"{things[0]} {where} {things[1]} on {s.background}"
    where = next(p for p, meaning in PLACES.items() if meaning == place(s.objects[0]))
    return f"{things[0]} {where} on {s.background}"


def another(values, s, attribute):
    return next(v for v in values if v not in [getattr(o, attribute) for o in s.objects])


def changed(s, attribute):
    """The scene with one attribute changed to a value absent from it; None if all values are present."""
    first, *rest = s.objects
    if attribute == "background":
        return replace(s, background=next(b for b in BACKGROUNDS if b != s.background))
    if attribute == "relation":
        return Scene(
            (replace(first, centre=s.objects[1].centre), replace(rest[0], centre=first.centre)), s.background
        )
    if attribute == "place":
        return replace(s, objects=(replace(first, centre=(16.0, 26.0 if first.centre[1] < 20 else 6.0)),))
    values = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[attribute]
    if {getattr(o, attribute) for o in s.objects} == set(values):
        return None
    other = replace(first, **{attribute: another(values, s, attribute)})
    return replace(s, objects=(other, *rest))


@pytest.mark.parametrize("attribute", ["shape", "colour", "size", "relation", "place", "background"])
def test_only_the_score_of_a_wrong_attribute_falls(attribute):
    """The caption of a changed scene with the image of the original one."""
    count = {"relation": 2, "place": 1}.get(attribute)
    some = [s for i in range(150) if len((s := scene(i)).objects) == (count or len(s.objects))]
    pairs = [(s, told(other)) for s in some if (other := changed(s, attribute))]
    assert len(pairs) > 30
    found = figures(pairs)
    assert found.pop(attribute) == 0
    assert found.pop("all") == 0
    found.pop("binding", None)
    assert found == dict.fromkeys(found, 1.0)


def test_one_object_too_few_or_too_many():
    one, two = Scene((RED,), "white"), TRUE
    assert figures([(two, "a large red circle")]) == {
        "objects": 0,
        "shape": 1,
        "colour": 1,
        "size": 1,
        "all": 0,
    }
    missing = figures([(one, SENTENCE)])
    assert missing["background"] == 1
    assert max(share for claim, share in missing.items() if claim != "background") == 0


def test_ambiguous_objects_are_matched_by_their_relation():
    circles = Scene((RED, replace(RED, colour="blue", centre=(16.0, 24.0))), "white")
    assert figures([(circles, "a circle right of a circle")])["all"] == 1
    assert figures([(circles, "a blue circle right of a circle")])["all"] == 1
    found = figures([(circles, "a blue circle left of a circle")])
    assert found == {"objects": 1, "shape": 1, "colour": 1, "relation": 0, "all": 0}


def test_swapped_colours_are_a_failure_of_binding():
    swapped = Scene((replace(RED, colour="blue"), replace(BLUE, colour="red")), "white")
    assert figures([(swapped, SENTENCE)]) == {
        "objects": 1,
        "shape": 1,
        "colour": 0,
        "size": 1,
        "relation": 1,
        "background": 1,
        "binding": 0,
        "all": 0,
    }
    assert figures([(TRUE, SENTENCE)])["binding"] == 1
    # Nothing to confuse: an object is missing, both have the same colour, or a colour is not named.
    green = Scene((replace(RED, colour="green"), BLUE), "white")
    assert "binding" not in figures([(green, SENTENCE)])
    assert "binding" not in figures([(TRUE, "a red circle left of a red square")])
    assert "binding" not in figures([(TRUE, "a circle left of a blue square")])


def test_each_score_is_over_the_captions_that_make_the_claim():
    found = figures(
        [(TRUE, SENTENCE), (TRUE, "a square and a circle"), (TRUE, "a red circle left of a cross")]
    )
    assert found == {
        "objects": 1,
        "shape": pytest.approx(2 / 3),
        "colour": 1,
        "size": 1,
        "relation": 1,
        "background": 1,
        "binding": 1,
        "all": pytest.approx(2 / 3),
    }


def test_an_unrecognised_object_satisfies_no_claim():
    rows, columns = np.mgrid[:32, :32] - 15.5
    ring = abs(np.hypot(rows, columns) - 5.5) < 1.5
    image = np.where(ring[:, :, None], (150, 90, 40), BACKGROUNDS["white"]).astype(np.uint8)
    found = alignment(image[None], ["a small red circle in the middle on black"])
    assert found == {"objects": 1, "shape": 0, "colour": 0, "size": 0, "place": 1, "background": 0, "all": 0}


@pytest.mark.parametrize("captions", [[], ["a red circle"] * 3])
def test_it_takes_one_caption_per_image(captions):
    with pytest.raises(ValueError, match="expected one per image"):
        alignment(np.zeros((2, 32, 32, 3), np.uint8), captions)


def test_unknown_words_are_rejected():
    with pytest.raises(ValueError, match="'dog' is not in the vocabulary"):
        alignment(np.zeros((1, 32, 32, 3), np.uint8), ["a red dog"])
