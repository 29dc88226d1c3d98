"""Clips on a page."""

import numpy as np

from jaxflow.data.strips import GAP, film_strip, mosaic


def clips(n=3, frames=5, channels=3):
    return np.random.default_rng(0).integers(0, 200, (n, frames, 4, 6, channels), np.uint8)


def test_a_film_strip_has_a_row_for_each_clip():
    page = film_strip(clips(), every=2)
    assert page.shape == (3 * 4 + 2 * GAP, 3 * 6 + 2 * GAP, 3)
    for i, clip in enumerate(clips()):
        for j, frame in enumerate(clip[::2]):
            top, left = i * (4 + GAP), j * (6 + GAP)
            np.testing.assert_array_equal(page[top : top + 4, left : left + 6], frame)
    assert (page[4 : 4 + GAP] == 255).all()
    assert (page[:, 6 : 6 + GAP] == 255).all()


def test_a_mosaic_is_a_clip_of_clips():
    page = mosaic(clips(channels=1), columns=2)
    assert page.shape == (5, 8 + GAP, 12 + GAP, 1)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        top, left = row * (4 + GAP), column * (6 + GAP)
        np.testing.assert_array_equal(page[:, top : top + 4, left : left + 6], clips(channels=1)[i])
    assert (page[:, 4:, 6:] == 255).all()
