"""Edits of a picture by a model, in pixels."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import paths, spaces
from jaxflow.data.codecs import Classes
from jaxflow.runs import edit
from jaxflow.runs.edits import _covered
from jaxflow.runs.model import Model

SPACE = spaces.Pixels((4, 6, 1))
PICTURE = np.arange(24, dtype=np.uint8).reshape(4, 6, 1) * 10
MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:] = True


def toward_grey(params, x, t, y):
    """The velocity of data that are all 0."""
    return -x / jnp.maximum(1 - t, 1e-3)[:, None, None, None]


MODEL = Model(toward_grey, {"w": jnp.ones(())}, paths.Linear(), "velocity", Classes(("a", "b")), SPACE)


@pytest.mark.requirement("R64")
def test_a_variation_keeps_what_its_strength_leaves():
    """The data of the model are 0: all that is left of the picture is multiplied by 1 - t in the end."""
    images = MODEL.sample(0, [0, 1], edit=edit(SPACE, PICTURE, strength=0.5), solver="euler", steps=4)
    assert np.all(np.abs(images.astype(int) - 128) <= 1)
    almost = MODEL.sample(0, [0], edit=edit(SPACE, PICTURE, strength=1e-6), solver="euler", steps=1)
    assert almost.shape == (1, 4, 6, 1)


@pytest.mark.requirement("R64")
def test_what_is_masked_is_drawn_anew_and_the_rest_is_kept():
    completed = edit(SPACE, PICTURE, mask=MASK, repeats=2)
    images = MODEL.sample(0, [0, 1, None], w=3.0, edit=completed, solver="euler", steps=4)
    assert np.all(np.abs(images[:, MASK].astype(int) - 128) <= 1)
    assert np.array_equal(images[:, ~MASK], np.broadcast_to(PICTURE[~MASK], (3, 16, 1)))


def test_latents_are_drawn_anew_where_any_of_their_pixels_is():
    assert _covered(MASK, (2, 3)).tolist() == [[False, True, True], [False, True, True]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "strength, mask: expected one of them"),
        ({"strength": 0.5, "mask": MASK}, "strength, mask: expected one of them"),
        ({"strength": 1.5}, "strength = 1.5: must be in"),
        ({"strength": 0.0}, "strength = 0.0: must be positive"),
        ({"strength": 0.5, "repeats": 2}, "repeats = 2: has no effect without a mask"),
        ({"mask": MASK, "repeats": 0}, "repeats = 0: must be at least 1"),
        ({"mask": MASK[:2]}, r"mask: the shape \(2, 6\): expected \(4, 6\)"),
        ({"mask": ~MASK | MASK}, "mask: must have both a part to draw anew, white, and one to keep"),
        (
            {"picture": PICTURE[:2], "strength": 0.5},
            r"picture: uint8 of the shape \(2, 6, 1\)",
        ),
        ({"picture": PICTURE / 255, "strength": 0.5}, "picture: float64 of the shape"),
    ],
)
def test_other_edits_are_rejected(options, says):
    options = {"picture": PICTURE} | options
    with pytest.raises(ValueError, match=says):
        edit(SPACE, options.pop("picture"), **options)


def test_a_stochastic_solver_cannot_edit():
    with pytest.raises(ValueError, match="solver = 'ddpm': cannot edit a picture; use one of euler"):
        MODEL.sample(0, [0], edit=edit(SPACE, PICTURE, strength=0.5), solver="ddpm")


@dataclass(frozen=True)
class OfOneSize:
    """A network for images of 4 x 6."""

    def __call__(self, params, x, t, y):
        return x + jnp.zeros((4, 6, 1))


def test_a_model_has_other_sizes_where_its_network_can():
    model = MODEL.resized(5, 3)
    assert model.sample(0, [1], steps=1).shape == (1, 5, 3, 1)
    with pytest.raises(ValueError, match="size = 5 x 3: the model cannot have this size: "):
        Model(OfOneSize(), {}, paths.Linear(), "velocity", Classes(("a",)), SPACE).resized(5, 3)
    for size in ((0, 3), (3, -1), (10**6, 3)):
        with pytest.raises(ValueError, match="must be whole numbers from 1 to 16384"):
            MODEL.resized(*size)


def test_the_strength_is_fixed_and_the_picture_is_an_argument():
    """One program for all pictures."""
    leaves, tree = jax.tree.flatten(edit(SPACE, PICTURE, strength=0.5))
    assert [np.shape(leaf) for leaf in leaves] == [(4, 6, 1)]
    assert tree == jax.tree.structure(edit(SPACE, PICTURE + 1, strength=0.5))
    assert tree != jax.tree.structure(edit(SPACE, PICTURE, strength=0.6))
