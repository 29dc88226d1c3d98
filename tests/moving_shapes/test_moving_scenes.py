import hashlib
from functools import cache

import numpy as np
import pytest
from conftest import assert_expected

from jaxflow.moving_shapes import scenes
from jaxflow.moving_shapes.scenes import HELD_OUT, MOTIONS, SPEEDS, TURNING, TURNS, draw, held_out
from jaxflow.shapes.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, SPLITS, coverage

scene = cache(scenes.scene)
"""Most scenes serve several tests."""
SIGNS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


@pytest.fixture(scope="module")
def world():
    counts = {"train": 300, "test": 30, "held_out": 150}
    return [scene(i, split) for split in SPLITS for i in (*range(counts[split]), 2**62, 2**63 - 1)]


@pytest.fixture(scope="module")
def objects(world):
    return [o for s in world for o in s.objects]


def test_scenes_are_the_same_on_every_machine():
    clips = b"".join(draw(scene(i, split)).tobytes() for split in SPLITS for i in (0, 1, 2, 3, 2**62))
    assert hashlib.sha256(clips).hexdigest()[:16] == "1ae43731c6b7ee4c"


@pytest.mark.parametrize(("index", "split"), [(-1, "train"), (2**63, "train"), (0, "validation")])
def test_indices_and_splits_out_of_range(index, split):
    with pytest.raises(ValueError, match=r"index = |split = 'validation'"):
        scene(index, split)


def test_objects_stay_in_the_image_and_have_the_radii_of_their_sizes(objects):
    for o in objects:
        assert len(o.centres) == len(o.radii) == 16
        least = 0 if o.motion == "bounces" else 1
        for centre, radius in zip(o.centres, o.radii, strict=True):
            assert all(least + radius <= c <= 32 - least - radius for c in centre)
        limits = {size: (low / 4, high / 4) for size, (low, high) in SIZES.items()}
        if o.size:
            assert len(set(o.radii)) == 1
            assert limits[o.size][0] <= o.radii[0] <= limits[o.size][1]
        else:
            small, large = sorted((o.radii[0], o.radii[-1]))
            assert limits["small"][0] <= small <= limits["small"][1]
            assert limits["large"][0] <= large <= limits["large"][1]
            assert (o.radii[0] < o.radii[-1]) == (o.motion == "grows")


def test_paths_are_those_of_the_motions(objects):
    """Straight and circular paths have their closed form; one that bounces turns once, at the edge."""
    for o in objects:
        path = np.array(o.centres)
        steps = np.diff(path, axis=0)
        if o.motion == "circles":
            centre = np.linalg.lstsq(
                np.diff(path, axis=0)[:2], np.diff((path**2).sum(1))[:2] / 2, rcond=None
            )[0]
            row, column = (path - centre).T
            turned = np.unwrap(np.arctan2(row, column)) * TURNS[o.direction]
            degrees = np.polyfit(range(16), turned, 1)[0] * 240 / (2 * np.pi)
            low, high = TURNING[o.speed]
            assert low - 0.5 < degrees < high + 0.5
        elif o.motion in ("moves", "bounces"):
            axis = 0 if o.direction in ("up", "down") else 1
            along = steps @ SIGNS[o.direction]
            assert not steps[:, 1 - axis].any()
            low, high = (s / 32 for s in SPEEDS[o.speed])
            assert low <= along[0] <= max(high, 46 / 32)
            if o.motion == "moves":
                assert len(set(along)) == 1
            else:
                assert sorted(set(along))[0] == -along[0]
                assert len(set(along)) <= 3  # at most one step is shorter: that with the edge in it
                nearest = np.min(np.abs(path[:, axis] - np.where(along[0] == steps[0, axis], 32, 0)))
                assert nearest <= o.radii[0] + along[0] / 2
        else:
            assert not steps.any()


def test_two_objects_are_apart_or_one_passes_the_other(world):
    for s in (s for s in world if len(s.objects) == 2):
        first, second = (np.array(o.centres) for o in s.objects)
        reach = np.add(*(o.radii for o in s.objects))
        gaps = np.abs(first - second).max(axis=1) - reach
        if s.front is None:
            assert gaps.min() >= 3
        else:
            moving, standing = s.objects
            assert (moving.motion, standing.motion) == ("moves", "stands")
            assert moving.colour != standing.colour
            assert min(gaps[[0, 1, -2, -1]]) >= 0.75
            pairs = zip(
                *[[coverage(o.shape, c, o.radii[0]) for c in o.centres] for o in s.objects], strict=True
            )
            assert sum(float((a * b).sum()) for a, b in pairs) / 256 > 8


def test_the_distribution_of_the_scenes():
    train = [scene(i) for i in range(1500)]
    assert_expected([[len(s.objects) == 1, s.front is not None] for s in train], [0.4, 0.25], 6)
    assert_expected([s.front == 0 for s in train if s.front is not None], 0.5, 6)
    apart = [s.objects[0] for s in train if s.front is None]
    assert_expected([[o.motion == motion for motion in MOTIONS] for o in apart], [1 / 6] * 6, 6)
    assert_expected([[s.background == name for name in BACKGROUNDS] for s in train], [1 / 3] * 3, 6)
    seen = {(o.motion, x) for s in train for o in s.objects for x in (o.colour, o.shape)}
    every = {(motion, x) for motion in MOTIONS for x in (*COLOURS, *SHAPES)}
    assert seen == every - set(HELD_OUT)  # so that every motion, colour and shape is trained


def test_held_out_combinations_are_only_in_their_split():
    for split, count in {"train": 1000, "test": 30, "held_out": 150}.items():
        for s in (scene(i, split) for i in range(count)):
            combinations = {(o.motion, x) for o in s.objects for x in (o.colour, o.shape)}
            assert bool(combinations & set(HELD_OUT)) == held_out(s) == (split == "held_out")


def test_train_and_test_share_no_scene(world):
    """The split is a function of the content of a scene, not of its index."""
    assert not any(scenes._is_test(scene(i)) for i in range(1000))
    assert all(scenes._is_test(scene(i, "test")) for i in range(30))
    assert len(set(world)) > 0.99 * len(world)


def test_clips_show_the_object_in_front(world):
    passing = [s for s in world if s.front is not None]
    for s in passing[:40]:
        clip, front = draw(s), s.objects[s.front]
        for frame, (row, column) in zip(clip, front.centres, strict=True):
            assert tuple(frame[int(row), int(column)]) == COLOURS[front.colour]
