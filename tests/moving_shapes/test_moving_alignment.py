import numpy as np
import pytest

from jaxflow.moving_shapes.alignment import CLAIMS, alignment
from jaxflow.moving_shapes.captions import caption
from jaxflow.moving_shapes.scenes import MovingObject, MovingScene, draw, scene

MOVING = MovingObject(
    "circle",
    "red",
    "small",
    "moves",
    "right",
    "fast",
    tuple((16.0, 5.0 + 1.4 * k) for k in range(16)),
    (4.0,) * 16,
)
STANDING = MovingObject("square", "blue", "small", "stands", None, None, ((16.0, 15.5),) * 16, (4.0,) * 16)
PASSING = MovingScene((MOVING, STANDING), "white", 0)
SENTENCE = "a small red circle moves right fast in front of a blue square on white"


def figures(s, text):
    return alignment(draw(s)[None], [text])


def test_true_captions_are_all_true():
    scenes = [scene(i, split) for split in ("train", "held_out") for i in range(25)]
    found = alignment(map(draw, scenes), [caption(s, i) for i, s in enumerate(scenes)])
    assert found == dict.fromkeys(CLAIMS, 1.0)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (SENTENCE, set()),
        (SENTENCE.replace("circle", "cross"), {"shape"}),
        (SENTENCE.replace("red", "green"), {"colour"}),
        (SENTENCE.replace("small", "large"), {"size"}),
        (SENTENCE.replace("right", "left"), {"direction"}),
        (SENTENCE.replace("fast", "slowly"), {"speed"}),
        (SENTENCE.replace("in front of", "behind"), {"order"}),
        (SENTENCE.replace("white", "black"), {"background"}),
        ("a red circle grows and a blue square stands still", {"motion"}),
        ("a blue square moves and a red circle stands still", {"motion"}),
        ("a small red circle moves right", {"objects"}),
    ],
)
def test_only_the_score_of_a_wrong_claim_falls(text, wrong):
    found = figures(PASSING, text)
    assert {claim for claim, share in found.items() if share == 0} == (wrong and wrong | {"all"})
    assert set(found.values()) <= {0.0, 1.0}


def test_one_matching_serves_all_claims():
    """Colours and motions are both there, but not together."""
    found = figures(PASSING, "a blue circle moves right behind a red square")
    assert found == {"objects": 1, "shape": 1, "colour": 0, "motion": 1, "direction": 1, "order": 0, "all": 0}


def test_captions_of_frames_in_another_order_are_false():
    scenes = [s for s in map(scene, range(40)) if any(o.direction for o in s.objects)]
    captions = [caption(s, i) for i, s in enumerate(scenes)]
    clips = np.stack([draw(s) for s in scenes])
    shuffled = clips[:, np.random.default_rng(0).permutation(16)]
    found = {
        name: alignment(x, captions) for name, x in {"shuffled": shuffled, "back": clips[:, ::-1]}.items()
    }
    assert found["shuffled"]["motion"] == 0
    assert found["back"]["motion"] == 1
    assert found["back"]["direction"] < 0.5


@pytest.mark.parametrize("captions", [[], ["a red circle grows"] * 3])
def test_it_takes_one_caption_per_clip(captions):
    with pytest.raises(ValueError, match="expected one per clip"):
        alignment(np.zeros((2, 16, 32, 32, 3), np.uint8), captions)
