from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from jaxflow.shapes.alignment import alignment
from jaxflow.shapes.captions import PLACES, RELATIONS, caption
from jaxflow.shapes.reader import UNKNOWN, read
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


def attributes(s):
    return s.background, [(o.shape, o.colour, o.size) for o in s.objects]


def noisy(image, seed):
    noise = np.random.default_rng(seed).integers(-20, 21, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image, seed):
    del seed
    return np.round(ndimage.gaussian_filter(image.astype(float), (0.5, 0.5, 0))).astype(np.uint8)


def off_colour(image, seed):
    return np.clip(image + np.random.default_rng(seed).integers(-15, 16, 3), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("split", "count"), [("train", 1500), ("test", 300), ("held_out", 1200)])
def test_every_drawn_scene_is_read_exactly(split, count):
    for i in range(100_000, 100_000 + count):
        drawn = scene(i, split)
        reading = read(draw(drawn))
        assert attributes(reading) == attributes(drawn)
        for seen, o in zip(reading.objects, drawn.objects, strict=True):
            # Centres and radii are multiples of 1/4: nearer than half of that is exact.
            assert max(abs(a - b) for a, b in zip(seen.centre, o.centre, strict=True)) < 0.125
            assert abs(seen.radius - o.radius) < 0.125


@pytest.mark.parametrize("disturb", [noisy, blurred, off_colour, lambda x, i: noisy(blurred(x, i), i)])
def test_of_disturbed_scenes_99_in_100_are_read_in_full(disturb):
    drawn = [scene(i) for i in range(400)]
    right = [attributes(read(disturb(draw(s), i))) == attributes(s) for i, s in enumerate(drawn)]
    assert np.mean(right) >= 0.99


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_blank_image_has_no_object(name):
    image = np.broadcast_to(np.array(BACKGROUNDS[name], np.uint8), (32, 32, 3))
    assert read(image) == read(noisy(image, 0)) == Scene((), name)
    dirty = image.copy()
    dirty[10:12, 20:22] = COLOURS["red"]  # a speck is not an object
    assert read(dirty) == Scene((), name)


def test_noise_is_nothing_of_the_world():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    reading = read(image)
    assert reading.background == UNKNOWN
    assert {(o.shape, o.colour) for o in reading.objects} <= {(UNKNOWN, UNKNOWN)}


@pytest.mark.parametrize("seed", range(60))
def test_blobs_of_noise_have_no_shape(seed):
    """Where smoothed noise is above its mean, in the middle of the image; ragged at this length."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((32, 32)), 1.0)
    inside = np.zeros((32, 32), bool)
    inside[6:26, 6:26] = noise[6:26, 6:26] > 0
    image = np.where(inside[:, :, None], COLOURS["red"], BACKGROUNDS["gray"]).astype(np.uint8)
    assert {o.shape for o in read(image).objects} == {UNKNOWN}


def painted(inside, colour, background="black"):
    return np.where(inside[:, :, None], np.array(colour), BACKGROUNDS[background]).astype(np.uint8)


ROWS, COLUMNS = np.mgrid[:32, :32] - 15.5
RADII = np.hypot(ROWS, COLUMNS)


@pytest.mark.parametrize(
    "inside",
    [
        (RADII < 7) & (RADII > 4),
        (RADII < 7) & (ROWS > 0),
        (abs(ROWS) < 2) & (abs(COLUMNS) < 8),
        (np.hypot(ROWS, COLUMNS + 6) < 6) | ((abs(ROWS) < 5) & (abs(COLUMNS - 5) < 5)),
        (abs(ROWS) < 6) & (2 * abs(COLUMNS) < 6 - ROWS),
    ],
    ids=["ring", "half disc", "bar", "circle and square that touch", "triangle upside down"],
)
def test_shapes_of_another_world_are_unknown(inside):
    (only,) = read(painted(inside, COLOURS["yellow"])).objects
    assert only.shape == UNKNOWN
    assert only.colour == "yellow"


def test_colours_of_another_world_are_unknown():
    (orange,) = read(painted(RADII < 6, (255, 140, 0))).objects
    assert (orange.shape, orange.colour, orange.size) == ("circle", UNKNOWN, "large")
    halves = painted(RADII < 6, COLOURS["red"], "gray")
    halves[16:][RADII[16:] < 6] = COLOURS["blue"]
    (two_colours,) = read(halves).objects
    assert two_colours.colour == UNKNOWN
    assert read(np.full((32, 32, 3), (128, 20, 20), np.uint8)).background == UNKNOWN
    torn = np.zeros((32, 32, 3), np.uint8)
    torn[:16] = 255  # the median lies between, and both halves are equally far from it
    assert read(torn).background == UNKNOWN


@pytest.mark.parametrize("radius", [1.9, 9.5])
def test_sizes_of_another_world_are_unknown(radius):
    (only,) = read(painted(radius > RADII, COLOURS["cyan"])).objects
    assert only.size == UNKNOWN


def test_more_objects_than_the_world_has_are_counted():
    corners = [(row, column) for row in (7.0, 25.0) for column in (7.0, 25.0)]
    objects = tuple(Object(shape, "red", "small", c, 4.0) for shape, c in zip(SHAPES, corners, strict=True))
    reading = read(draw(Scene(objects, "white")))
    assert sorted(o.shape for o in reading.objects) == sorted(SHAPES)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"image has the shape \(64, 64, 3\)"):
        read(np.zeros((64, 64, 3), np.uint8))


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
    """Everything there is to say of a scene."""
    things = [f"a {o.size} {o.colour} {o.shape}" for o in s.objects]
    if len(things) == 2:
        where = next(p for p, meaning in RELATIONS.items() if meaning == relation(*s.objects))
        return f"{things[0]} {where} {things[1]} on {s.background}"
    where = next(p for p, meaning in PLACES.items() if meaning == place(s.objects[0]))
    return f"{things[0]} {where} on {s.background}"


def another(values, s, attribute):
    return next(v for v in values if v not in [getattr(o, attribute) for o in s.objects])


def changed(s, attribute):
    """The scene with one thing changed into what is not in it; None where there is nothing else."""
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
def test_what_the_caption_has_wrong_falls_and_nothing_else(attribute):
    """A caption of the changed scene, of which only the words are used, beside the image of the true one."""
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


def test_things_are_matched_by_the_relation_where_attributes_leave_it_open():
    circles = Scene((RED, replace(RED, colour="blue", centre=(16.0, 24.0))), "white")
    assert figures([(circles, "a circle right of a circle")])["all"] == 1
    assert figures([(circles, "a blue circle right of a circle")])["all"] == 1
    found = figures([(circles, "a blue circle left of a circle")])
    assert found == {"objects": 1, "shape": 1, "colour": 1, "relation": 0, "all": 0}


def test_colours_on_the_wrong_objects_are_a_failure_of_binding():
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
    # Nothing to confuse: a part is missing, or both have the same colour, or a colour is not named.
    green = Scene((replace(RED, colour="green"), BLUE), "white")
    assert "binding" not in figures([(green, SENTENCE)])
    assert "binding" not in figures([(TRUE, "a red circle left of a red square")])
    assert "binding" not in figures([(TRUE, "a circle left of a blue square")])


def test_each_figure_is_over_the_captions_that_claim_it():
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


def test_what_is_not_recognised_makes_no_claim_true():
    image = painted((RADII < 7) & (RADII > 4), (150, 90, 40), "white")
    found = alignment(image[None], ["a small red circle in the middle on black"])
    assert found == {"objects": 1, "shape": 0, "colour": 0, "size": 0, "place": 1, "background": 0, "all": 0}


@pytest.mark.parametrize("captions", [[], ["a red circle"] * 3])
def test_one_caption_for_each_image_is_needed(captions):
    with pytest.raises(ValueError, match="needed is one for each"):
        alignment(np.zeros((2, 32, 32, 3), np.uint8), captions)


def test_captions_of_another_language_are_refused():
    with pytest.raises(ValueError, match="'dog' is not a word"):
        alignment(np.zeros((1, 32, 32, 3), np.uint8), ["a red dog"])
