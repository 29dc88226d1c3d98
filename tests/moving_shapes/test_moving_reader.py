from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from jaxflow.moving_shapes.reader import UNKNOWN, path_error, read
from jaxflow.moving_shapes.scenes import MovingObject, MovingScene, draw, scene
from jaxflow.shapes.scenes import BACKGROUNDS, COLOURS, SPLITS

ATTRIBUTES = ("shape", "colour", "size", "motion", "direction", "speed")


def named(s):
    """Two objects of a scene differ in colour or shape."""
    return {(o.colour, o.shape): o for o in s.objects}


def attributes(s):
    front = None if s.front is None else s.objects[s.front].colour
    return s.background, front, {tuple(getattr(o, a) for a in ATTRIBUTES) for o in s.objects}


@pytest.fixture(scope="module")
def examples():
    counts = {"train": 180, "test": 20, "held_out": 100}
    return [(s, draw(s)) for split in SPLITS for s in (scene(10**5 + i, split) for i in range(counts[split]))]


@pytest.mark.requirement("R68")
def test_every_drawn_clip_is_read_exactly(examples):
    for s, clip in examples:
        reading = read(clip)
        assert attributes(reading) == attributes(s)
        assert reading.persistence == 1
        for key, o in named(reading).items():
            true = named(s)[key]
            error = path_error(np.array(o.centres), np.array(true.centres))
            assert error < (0.2 if s.front is None else 0.3)
            assert np.max(np.abs(np.subtract(o.radii, true.radii))) < 0.4


@pytest.mark.requirement("R68")
def test_other_orders_of_the_frames_are_noticed(examples):
    """Shuffled, nothing that moves has a motion; frozen, it stands; backwards, it goes the other way."""
    opposite = {"left": "right", "up": "down", "clockwise": "anticlockwise"}
    opposite |= {b: a for a, b in opposite.items()}
    for seed, (s, clip) in enumerate(examples[:30]):
        order = np.random.default_rng(seed).permutation(16)
        shuffled, frozen = named(read(clip[order])), named(read(np.repeat(clip[:1], 16, axis=0)))
        backwards = named(read(clip[::-1]))
        for key, o in named(s).items():
            back = {"grows": "shrinks", "shrinks": "grows"}.get(o.motion, o.motion)
            turn = o.direction if o.motion == "bounces" else opposite.get(o.direction)
            assert (backwards[key].motion, backwards[key].direction) == (back, turn)
            assert frozen[key].motion == "stands"
            if key in shuffled:  # what passes behind may be lost
                assert shuffled[key].motion in ({"stands", UNKNOWN} if o.motion == "stands" else {UNKNOWN})


def noisy(clip, seed):
    noise = np.random.default_rng(seed).integers(-16, 17, clip.shape)
    soft = ndimage.gaussian_filter(clip.astype(float), (0, 0.4, 0.4, 0))
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def test_95_percent_of_perturbed_clips_are_read_exactly(examples):
    right = [attributes(read(noisy(x, i))) == attributes(s) for i, (s, x) in enumerate(examples[::6])]
    assert np.mean(right) >= 0.95


def still(shape, colour, centre, radius, motion="stands"):
    return MovingObject(shape, colour, "small", motion, None, None, (centre,) * 16, (radius,) * 16)


def test_an_object_that_vanishes_does_not_persist():
    one = still("circle", "red", (10.0, 10.0), 4.0)
    two = MovingScene((one, still("square", "blue", (22.0, 22.0), 4.0)), "white", None)
    clip = draw(two)
    clip[4:8, 16:, 16:] = 255
    reading = read(clip)
    assert reading.persistence == 12 / 16
    assert attributes(reading) == attributes(two)


def test_a_jump_is_no_motion(examples):
    one = still("circle", "red", (10.0, 10.0), 4.0)
    there = replace(one, centres=((10.0, 10.0),) * 8 + ((22.0, 22.0),) * 8)
    assert [o.motion for o in read(draw(MovingScene((there,), "white", None))).objects] == [UNKNOWN]


def test_longer_clips_are_read(examples):
    """Over 64 frames: back and forth four times, and around six times."""
    steps = np.arange(64)
    back = 4 + np.abs((steps + 10) % 48 - 24.0)
    around = 2 * np.pi * steps / 10
    paths = {
        ("bounces", "up", "fast"): [(float(c), 16.0) for c in back],
        ("circles", "clockwise", "fast"): [
            (16 + 6 * np.sin(a).item(), 16 + 6 * np.cos(a).item()) for a in around
        ],
    }
    for expected, path in paths.items():
        parts = [
            draw(
                MovingScene(
                    (replace(still("cross", "red", path[0], 4.0), centres=tuple(path[k : k + 16])),),
                    "black",
                    None,
                )
            )
            for k in range(0, 64, 16)
        ]
        (o,) = read(np.concatenate(parts)).objects
        assert (o.motion, o.direction, o.speed) == expected
        assert path_error(np.array(o.centres), np.array(path)) < 0.125


RANDOM = np.random.default_rng(0)
HOSTILE = {
    "noise": RANDOM.integers(0, 256, (16, 32, 32, 3)),
    "two frames of noise": RANDOM.integers(0, 256, (2, 32, 32, 3)),
    "saturated": RANDOM.choice([0, 255], (16, 32, 32, 3)),
    "confetti": np.array(list(COLOURS.values()))[RANDOM.integers(0, 6, (16, 32, 32))],
    "flash": np.repeat([[[[0] * 3]], [[[255] * 3]]], 8, axis=0) * np.ones((16, 32, 32, 3), int),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_recognised_in_other_clips(name):
    reading = read(HOSTILE[name].astype(np.uint8))
    assert reading.background == UNKNOWN
    assert {(o.shape, o.motion) for o in reading.objects} <= {(UNKNOWN, UNKNOWN)}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_blank_clip_has_no_object(name):
    blank = np.broadcast_to(np.array(BACKGROUNDS[name], np.uint8), (16, 32, 32, 3))
    reading = read(blank)
    assert (reading.objects, reading.background, reading.front, reading.persistence) == ((), name, None, 1)


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (16, 64, 64, 3)])
def test_clips_of_another_size_are_rejected(shape):
    with pytest.raises(ValueError, match="clip has the shape"):
        read(np.zeros(shape, np.uint8))
