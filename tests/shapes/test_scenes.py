import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from conftest import assert_expected
from scipy import ndimage

from jaxflow.shapes import scenes
from jaxflow.shapes.captions import caption
from jaxflow.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    SHAPES,
    SIZES,
    SPLITS,
    Object,
    coverage,
    draw,
    held_out,
    place,
    relation,
)

AREAS = {"circle": np.pi, "square": 1.75**2, "triangle": 1.75, "cross": 2 * 2 * 0.75 - 0.75**2}
MANY = [(i, split) for split in SPLITS for i in (*range(700), *range(2**63 - 100, 2**63))]

scene = cache(scenes.scene)
"""Most scenes serve several tests."""


@pytest.fixture(scope="module")
def world():
    return [scene(*which) for which in MANY]


def test_the_generator_is_splitmix64():
    """The first outputs from state 0 of the authors' program."""
    numbers = [scenes._mix(k * scenes._GOLDEN & scenes._64_BITS) for k in (1, 2, 3)]
    assert numbers == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_scenes_are_bit_identical_in_another_process():
    code = (
        "import sys; from jaxflow.shapes.scenes import *; from jaxflow.shapes.captions import *;"
        "[sys.stdout.buffer.write(draw(scene(i, s)).tobytes() + caption(scene(i, s), i).encode())"
        " for s in SPLITS for i in (0, 1, 2**62)]"
    )
    ours = b"".join(
        draw(scene(i, s)).tobytes() + caption(scene(i, s), i).encode() for s in SPLITS for i in (0, 1, 2**62)
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    assert run.stdout == ours


def test_scenes_differ_from_index_to_index(world):
    assert len(set(world)) > 0.99 * len(world)


@pytest.mark.parametrize(("index", "split"), [(-1, "train"), (2**63, "train"), (0, "validation")])
def test_indices_and_splits_out_of_range(index, split):
    with pytest.raises(ValueError, match=r"index = |split = 'validation'"):
        scene(index, split)


def test_every_scene_is_within_its_bounds(world):
    for s in world:
        assert s.background in BACKGROUNDS
        for o in s.objects:
            least, greatest = SIZES[o.size]
            assert least / 4 <= o.radius <= greatest / 4
            assert all(1 + o.radius <= c <= 31 - o.radius for c in o.centre)


def test_one_object_has_a_place_and_two_have_a_relation_and_a_gap(world):
    for s in world:
        if len(s.objects) == 1:
            assert place(s.objects[0]) is not None
            continue
        first, second = s.objects
        assert (first.colour, first.shape) != (second.colour, second.shape)
        assert relation(first, second) in ("left", "up")
        axis = 1 if relation(first, second) == "left" else 0
        step = [b - a for a, b in zip(first.centre, second.centre, strict=True)]
        assert step[axis] - first.radius - second.radius >= 3
        assert step[axis] >= 1.5 * abs(step[1 - axis])


def test_the_distribution_of_the_scenes():
    train = [scene(i, "train") for i in range(4000)]
    assert_expected([len(s.objects) == 1 for s in train], 0.4, 6)
    objects = [o for s in train for o in s.objects]
    assert_expected([o.size == "large" for o in objects], 0.5, 6)
    assert_expected([[s.background == name for name in BACKGROUNDS] for s in train], [1 / 3] * 3, 6)
    allowed = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT]
    first = [s.objects[0] for s in train]  # one per scene, so that the samples are independent
    assert_expected([[(o.colour, o.shape) == pair for pair in allowed] for o in first], [1 / 20] * 20, 6)
    places = [place(s.objects[0]) for s in train if len(s.objects) == 1]
    names = ("left", "right", "up", "down", "middle")
    assert_expected([[p == name for name in names] for p in places], [1 / 5] * 5, 6)


def test_held_out_pairs_are_only_in_their_split():
    assert {c for c, _ in HELD_OUT} < set(COLOURS)
    assert {s for _, s in HELD_OUT} == set(SHAPES)  # one colour each: every shape is seen in training
    for i in range(800):
        pairs = {
            split: {(o.colour, o.shape) for o in scene(i, split).objects} & set(HELD_OUT) for split in SPLITS
        }
        assert not pairs["train"]
        assert not pairs["test"]
        assert pairs["held_out"]
        assert held_out(scene(i, "held_out"))
        assert not held_out(scene(i, "train"))


def test_held_out_pairs_are_first_as_often_as_second():
    """In half of the scenes with two objects the held-out pair comes second."""
    two = [s for i in range(1000) if len((s := scene(i, "held_out")).objects) == 2]
    for k in (0, 1):
        assert_expected(
            [(s.objects[k].colour, s.objects[k].shape) in HELD_OUT for s in two], (1 + 3 / 23) / 2, 6
        )


def test_train_and_test_share_no_scene():
    """The split is a function of the content of a scene, not of its index, or a few would coincide."""
    assert not any(scenes._is_test(scene(i, "train")) for i in range(2000))
    assert all(scenes._is_test(scene(i, "test")) for i in range(500))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [3.25, 6.5])
def test_area_and_centre_of_mass_are_those_of_the_shape(shape, radius):
    """On average over all positions of the centre on its grid, which averages out the rounding."""
    steps = np.arange(8) / 32
    centres = [(16 + row, 15 + column) for row in steps for column in steps]
    drawn = [coverage(shape, centre, radius) / 16 for centre in centres]
    assert np.mean([d.sum() for d in drawn]) == pytest.approx(AREAS[shape] * radius**2, rel=0.02)
    # The centre of mass of an equilateral triangle is a sixth of its height below the middle.
    below = 1.75 * radius / 6 if shape == "triangle" else 0
    offsets = [np.add(ndimage.center_of_mass(d), 0.5) - c for d, c in zip(drawn, centres, strict=True)]
    np.testing.assert_allclose(np.mean(offsets, axis=0), [below, 0], atol=0.02)
    moved = coverage(shape, (18.0, 12.0), radius) / 16
    np.testing.assert_array_equal(moved, np.roll(drawn[0], (2, -3), (0, 1)))


def test_images_have_the_colours_of_their_scenes(world):
    for s in world[::5]:
        image = draw(s)
        rest = np.ones(image.shape[:2], bool)
        exact = np.full(image.shape, BACKGROUNDS[s.background], float)
        for o in s.objects:
            row, column = (int(c) for c in o.centre)
            assert tuple(image[row, column]) == COLOURS[o.colour]
            top, left = (int(np.floor(c - o.radius)) for c in o.centre)
            bottom, right = (int(np.ceil(c + o.radius)) for c in o.centre)
            rest[top:bottom, left:right] = False
            covered = coverage(o.shape, o.centre, o.radius)[:, :, None] / 16
            exact += covered * np.subtract(COLOURS[o.colour], BACKGROUNDS[s.background])
        assert np.abs(image - exact).max() <= 0.5
        assert np.all(image[rest] == BACKGROUNDS[s.background])


def test_relations_reverse_with_the_objects():
    a, b = (Object("circle", "red", "small", centre, 3.5) for centre in ((10.0, 8.0), (12.0, 20.0)))
    assert relation(a, b) == "left"
    assert relation(b, a) == "right"
    turned = Object("circle", "red", "small", (20.0, 8.0), 3.5)
    assert relation(a, turned) == "up"
    diagonal = Object("circle", "red", "small", (20.0, 18.0), 3.5)
    assert relation(a, diagonal) is None
