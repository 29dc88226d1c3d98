"""Clips of two digits that bounce."""

import itertools

import numpy as np
import pytest

from jaxflow.data.batches import batches
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import open_dataset
from jaxflow.data.moving_digits import FINE, Track, drawn, enlarged, open_moving_digits


def squares(size=8, channels=1):
    """In place of digit k a square with the shade 100 + k."""
    shades = np.broadcast_to(
        100 + np.arange(10, dtype=np.uint8)[:, None, None, None], (10, size, size, channels)
    )
    return Dataset.from_arrays(shades.copy(), np.arange(10))


def test_shapes_and_classes(data_dir):
    digits = {split: open_dataset("digits", split, data_dir) for split in ("train", "test")}
    train, test = (open_moving_digits(digits[split], split) for split in ("train", "test"))
    assert (len(train), len(test)) == (20_000, 2_000)
    assert train.image_shape == test.image_shape == (16, 32, 32, 1)
    assert len(train.codec.names) == 55
    assert train.codec == test.codec
    assert {"0 and 0", "3 and 7", "9 and 9"} <= set(train.codec.names)
    (example,) = test.examples([1999])
    assert (example["image"].shape, example["image"].dtype) == ((16, 32, 32, 1), np.uint8)
    assert next(batches(train, seed=0, batch_size=8, resident=False))["image"].shape == (8, 16, 32, 32, 1)


@pytest.mark.parametrize(("size", "side"), [(8, 32), (13, 64), (14, 32), (28, 64), (32, 64)])
def test_the_side_is_a_power_of_two_with_room_for_two_digits(size, side):
    assert open_moving_digits(squares(size, 3), "train", 4).image_shape == (4, side, side, 3)


def test_a_clip_depends_on_its_index_alone():
    one, other = (open_moving_digits(squares(), "train") for _ in range(2))
    together = one.examples([5, 17, 5])
    for i, example in zip((5, 17, 5), together, strict=True):
        (alone,) = other.examples([i])
        np.testing.assert_array_equal(example["image"], alone["image"])
        assert example["label"] == alone["label"]
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != open_moving_digits(squares(), "train", 8).fingerprint
    assert not np.array_equal(
        together[0]["image"], open_moving_digits(squares(), "test").examples([5])[0]["image"]
    )


def test_interpolation_is_that_of_integers():
    """Exactly, so that clips are the same on every machine."""
    random = np.random.default_rng(0)
    image, corners = random.integers(0, 256, (5, 5, 1), np.uint8), random.integers(0, FINE * 7 + 1, (9, 2))
    for frame, (top, left) in zip(drawn(image, corners, 12), corners.tolist(), strict=True):
        expected = [[0] * 12 for _ in range(12)]
        for (y, x), shade in np.ndenumerate(image[..., 0]):
            for dy, dx in itertools.product((0, 1), repeat=2):
                (row, down), (column, right) = divmod(top, FINE), divmod(left, FINE)
                weight = (down if dy else FINE - down) * (right if dx else FINE - right)
                if weight:
                    expected[row + y + dy][column + x + dx] += weight * int(shade)
        rounded = [[(total + 32) // 64 for total in row] for row in expected]
        np.testing.assert_array_equal(frame[..., 0], rounded)


def test_labels_are_the_pairs_of_digits():
    dataset = open_moving_digits(squares(), "train")
    pairs = [f"{a} and {b}" for a, b in itertools.combinations_with_replacement(range(10), 2)]
    assert dataset.codec.names == tuple(pairs)
    seen = set()
    for i in range(200):
        positions, _ = dataset.source.drawn(i)
        (example,) = dataset.examples([i])
        low, high = sorted(positions)
        assert dataset.codec.names[example["label"]] == f"{low} and {high}"
        assert example["image"].max() == 100 + high
        assert (example["image"] == 100 + low).any()
        seen.add(example["label"])
    assert len(seen) > 40


def test_digits_stay_inside_and_are_reflected():
    source = open_moving_digits(squares(), "train", 64).source
    for i in range(200):
        for track in source.drawn(i)[1]:
            at = track.positions(64)
            assert track.room == FINE * (32 - 16)
            assert at.min() >= 0
            assert at.max() <= track.room
            steps, speed = np.diff(at, axis=0), np.abs(track.velocity)
            # Away from the edges the step is the velocity or its mirror image; across one it is folded.
            folded = np.abs(steps) != speed
            edge = np.minimum(at, track.room - at)
            near = np.minimum(edge[1:], edge[:-1])
            assert (near[folded] < speed[np.nonzero(folded)[1]]).all()
            assert FINE <= np.hypot(*track.velocity) <= 2 * FINE
            np.testing.assert_array_equal(at[0], track.start)


def test_reflection_is_that_of_a_mirror():
    track = Track((10, 100), (-4, 12), 128)
    rows, columns = track.positions(8).T
    np.testing.assert_array_equal(rows, [10, 6, 2, 2, 6, 10, 14, 18])
    np.testing.assert_array_equal(columns, [100, 112, 124, 120, 108, 96, 84, 72])


def test_all_directions_are_drawn():
    source = open_moving_digits(squares(), "train").source
    velocities = np.array([track.velocity for i in range(1000) for track in source.drawn(i)[1]])
    angles = np.arctan2(*velocities.T)
    counts, _ = np.histogram(angles, 8, (-np.pi, np.pi))
    assert counts.min() > 2000 / 8 - 6 * (2000 / 8) ** 0.5
    assert np.abs(velocities.mean(axis=0)).max() < 6 * velocities.std() / 2000**0.5


def test_a_digit_at_a_whole_pixel_is_copied():
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 2), np.uint8)
    clip = drawn(image, FINE * np.array([[3, 7], [0, 11]]), 16)
    np.testing.assert_array_equal(clip[0, 3:8, 7:12], image)
    np.testing.assert_array_equal(clip[1, 0:5, 11:16], image)
    assert clip.sum() == 2 * image.sum(dtype=int)


def test_between_pixels_it_is_interpolated():
    image = np.full((1, 1, 1), 200, np.uint8)
    (frame,) = drawn(image, np.array([[2, 4]]), 4)
    expected = np.zeros((4, 4, 1))
    expected[:2, :2, 0] = 200 * np.outer([0.75, 0.25], [0.5, 0.5])
    assert np.abs(frame - expected).max() <= 0.5


def test_overlapping_digits_show_the_brighter():
    dataset = open_moving_digits(squares(), "train")
    for i in range(20):
        (example,), (positions, tracks) = dataset.examples([i]), dataset.source.drawn(i)
        layers = [
            drawn(np.full((16, 16, 1), 100 + k, np.uint8), track.positions(16), 32)
            for k, track in zip(positions, tracks, strict=True)
        ]
        np.testing.assert_array_equal(example["image"], np.maximum(*layers))


def test_enlarging_interpolates_bilinearly():
    ramp = np.broadcast_to(16 * np.arange(6, dtype=np.uint8)[:, None, None], (6, 6, 1))
    large = enlarged(ramp)
    assert large.shape == (12, 12, 1)
    np.testing.assert_array_equal(large[1:-1, 0, 0], 4 + 8 * np.arange(10))
    np.testing.assert_array_equal(large, np.broadcast_to(large[:, :1], large.shape))
    np.testing.assert_array_equal(enlarged(ramp.swapaxes(0, 1)), large.swapaxes(0, 1))


def test_other_data_are_rejected():
    pictures = np.zeros((4, 8, 6, 1), np.uint8)
    with pytest.raises(ValueError, match=r"digits are \(8, 6, 1\) with Classes: expected square images"):
        open_moving_digits(Dataset.from_arrays(pictures, [0, 1, 2, 3]), "train")
    captioned = Dataset.from_arrays(pictures[:, :, :6, :][:, :6], captions=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"with Captions: expected square images with Classes"):
        open_moving_digits(captioned, "train")
    with pytest.raises(ValueError, match="split 'val' of data set 'moving_digits': must be train or test"):
        open_moving_digits(squares(), "val")
    with pytest.raises(ValueError, match="frames = 0: must be at least 1"):
        open_moving_digits(squares(), "train", 0)
    with pytest.raises(IndexError, match="index 20000: must be from 0 to 19999"):
        open_moving_digits(squares(), "train").examples([20_000])
