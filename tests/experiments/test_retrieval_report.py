import json

import numpy as np
import pytest

from experiments import presets
from experiments.report import retrieval
from jaxflow.data.dataset import Dataset
from jaxflow.devices import mesh
from jaxflow.runs.run import Run
from jaxflow.runs.settings import Setting
from jaxflow.spaces import Pixels

TONES = ("light", "medium", "dark")
SEEN = [f"{figure} {tone} skin tone" for figure in ("boy", "girl") for tone in TONES] + ["sun"]
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
SPLITS = {
    "train": Dataset.from_arrays(IMAGES[:7], captions=SEEN),
    "test": Dataset.from_arrays(IMAGES[7:], captions=["moon"]),
}


@pytest.mark.requirement("R66")
def test_pictures_of_the_prompts_are_found_and_others_are_not(tmp_path, capsys):
    pictures = dict(zip([*SEEN, "moon"], IMAGES, strict=True))
    other_tone = dict(zip(SEEN, [SEEN[1], SEEN[0], *SEEN[2:]], strict=True)) | {"moon": "sun"}

    def generate(wanted, setting):
        """At w = 1 the true pictures; at w = 2 two with the other's tone, and a sun for the moon."""
        names = SEEN if len(wanted.number) == 7 else ["moon"]
        return np.stack([pictures[name if setting.w == 1 else other_tone[name]] for name in names])

    experiment = presets.load("emoji").experiment
    run = Run(experiment, "", Pixels((4, 4, 3)), SPLITS["train"].codec)
    inverted = lambda images: 255 - images  # noqa: E731
    asked = (
        tmp_path,
        SPLITS.__getitem__,
        [Setting(1.0), Setting(2.0)],
        10,
        {},
        inverted,
        run,
        mesh.on_one_device(),
    )
    retrieval.report(*asked)(generate)
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["names"] == {"seen": 7, "held out": 1}
    assert result["pictures"] == 8
    perfect, swapped = result["table"]["seen"]
    assert perfect == dict.fromkeys(retrieval.COLUMNS, 1.0)
    assert swapped["top-1"] == pytest.approx(5 / 7)
    assert swapped["figure"] == 1.0
    assert swapped["tone"] == pytest.approx(4 / 6)
    assert result["decoded"]["seen"]["top-1"] < 0.5  # by an autoencoder that inverts all pictures
    assert result["table"]["held out"][1]["top-1"] == 0.0
    assert result["table"]["held out"][1]["tone"] is None  # no prompt has one
    assert "held out: 1 names, the nearest of 8 pictures" in capsys.readouterr().out
