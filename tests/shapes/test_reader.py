import numpy as np
import pytest
from scipy import ndimage

from jaxflow.shapes.reader import UNKNOWN, read
from jaxflow.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Object,
    Scene,
    draw,
    scene,
)


def attributes(s):
    return s.background, [(o.shape, o.colour, o.size) for o in s.objects]


@pytest.fixture(scope="module")
def examples():
    """Scenes and their images."""
    return [(s, draw(s)) for s in map(scene, range(400))]


def noisy(image, seed):
    noise = np.random.default_rng(seed).integers(-20, 21, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image, seed):
    del seed
    return np.round(ndimage.gaussian_filter(image.astype(float), (0.5, 0.5, 0))).astype(np.uint8)


def off_colour(image, seed):
    return np.clip(image + np.random.default_rng(seed).integers(-15, 16, 3), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("split", "count"), [("train", 600), ("test", 100), ("held_out", 500)])
def test_every_drawn_scene_is_read_exactly(split, count):
    for i in range(100_000, 100_000 + count):
        drawn = scene(i, split)
        reading = read(draw(drawn))
        assert attributes(reading) == attributes(drawn)
        for seen, o in zip(reading.objects, drawn.objects, strict=True):
            # Centres and radii are multiples of 1/4: within half of that is exact.
            assert max(abs(a - b) for a, b in zip(seen.centre, o.centre, strict=True)) < 0.125
            assert abs(seen.radius - o.radius) < 0.125


@pytest.mark.parametrize("disturb", [noisy, blurred, off_colour, lambda x, i: noisy(blurred(x, i), i)])
def test_99_percent_of_perturbed_scenes_are_read_exactly(disturb, examples):
    right = [attributes(read(disturb(x, i))) == attributes(s) for i, (s, x) in enumerate(examples)]
    assert np.mean(right) >= 0.99


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_blank_image_has_no_object(name):
    image = np.broadcast_to(np.array(BACKGROUNDS[name], np.uint8), (32, 32, 3))
    assert read(image) == read(noisy(image, 0)) == Scene((), name)
    dirty = image.copy()
    dirty[10:12, 20:22] = COLOURS["red"]  # a speck is not an object
    assert read(dirty) == Scene((), name)


def test_noise_is_unknown():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    reading = read(image)
    assert reading.background == UNKNOWN
    assert {(o.shape, o.colour) for o in reading.objects} <= {(UNKNOWN, UNKNOWN)}


@pytest.mark.parametrize("seed", range(60))
def test_blobs_of_noise_have_no_shape(seed):
    """The region where smoothed noise is positive, in the middle of the image; ragged at this scale."""
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
def test_other_shapes_are_unknown(inside):
    (only,) = read(painted(inside, COLOURS["yellow"])).objects
    assert only.shape == UNKNOWN
    assert only.colour == "yellow"


def test_other_colours_are_unknown():
    (orange,) = read(painted(RADII < 6, (255, 140, 0))).objects
    assert (orange.shape, orange.colour, orange.size) == ("circle", UNKNOWN, "large")
    halves = painted(RADII < 6, COLOURS["red"], "gray")
    halves[16:][RADII[16:] < 6] = COLOURS["blue"]
    (two_colours,) = read(halves).objects
    assert two_colours.colour == UNKNOWN
    assert read(np.full((32, 32, 3), (128, 20, 20), np.uint8)).background == UNKNOWN
    torn = np.zeros((32, 32, 3), np.uint8)
    torn[:16] = 255  # the median is between the halves, equally far from both
    assert read(torn).background == UNKNOWN


@pytest.mark.parametrize("radius", [1.9, 9.5])
def test_other_sizes_are_unknown(radius):
    (only,) = read(painted(radius > RADII, COLOURS["cyan"])).objects
    assert only.size == UNKNOWN


def test_three_objects_are_counted():
    corners = [(row, column) for row in (7.0, 25.0) for column in (7.0, 25.0)]
    objects = tuple(Object(shape, "red", "small", c, 4.0) for shape, c in zip(SHAPES, corners, strict=True))
    reading = read(draw(Scene(objects, "white")))
    assert sorted(o.shape for o in reading.objects) == sorted(SHAPES)


def test_images_of_another_size_are_rejected():
    with pytest.raises(ValueError, match=r"image has the shape \(64, 64, 3\)"):
        read(np.zeros((64, 64, 3), np.uint8))
