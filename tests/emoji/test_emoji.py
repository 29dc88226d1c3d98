"""The data set of a small colour font, as of a font of the machine."""

import emoji_font
import numpy as np
import pytest

from jaxflow.data.datasets import open_dataset
from jaxflow.emoji import fonts, names

NAMES = {
    emoji_font.FACE: "grinning face",
    emoji_font.TWO: "face with tears of joy",
    emoji_font.BLANK: "beaming face with smiling eyes",
    emoji_font.HAND: "waving hand",
}


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    file = tmp_path_factory.mktemp("font") / "colours.ttf"
    emoji_font.write(file)
    return file


@pytest.mark.requirement("R65")
def test_the_pictures_of_a_font_are_a_captioned_data_set(font, tmp_path, monkeypatch):
    monkeypatch.setenv(fonts.VARIABLE, str(font))
    splits = {split: open_dataset("emoji", split, tmp_path, image_size=32) for split in ("train", "test")}
    examples = {split: data.examples(range(len(data))) for split, data in splits.items()}
    said = {split: {e["caption"]: e["image"] for e in those} for split, those in examples.items()}
    # Without the blank picture, and with one of two equal ones.
    (held_out,) = said["test"]
    assert held_out == "waving hand light skin tone"
    tones = {f"waving hand {tone} skin tone" for tone in names.TONES[1:]}
    assert set(said["train"]) == {"face with tears of joy", "waving hand", *tones}
    assert splits["train"].image_shape == (32, 32, 3)
    centres = {name: tuple(image[16, 16]) for split in said.values() for name, image in split.items()}
    assert len(set(centres.values())) == len(centres)
    assert tuple(said["train"]["waving hand"][0, 0]) == (255, 255, 255)


def test_a_font_that_is_not_there_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(FileNotFoundError, match=r"EMOJI_FONT = .*none.ttf: there is no such file"):
        open_dataset("emoji", "train", tmp_path / "data")
    monkeypatch.delenv(fonts.VARIABLE)
    for places in ("FOLDERS", "ELSEWHERE"):
        monkeypatch.setattr(fonts, places, ())
    with pytest.raises(
        FileNotFoundError, match=r"apt install fonts-noto-color-emoji on Debian, dnf .* macOS"
    ):
        open_dataset("emoji", "train", tmp_path / "data")


def test_a_font_without_colours_is_rejected(tmp_path):
    emoji_font.write(tmp_path / "grey.ttf", colours=False)
    with pytest.raises(ValueError, match=r"font .*grey.ttf: Pillow draws it without colours"):
        fonts.Font(tmp_path / "grey.ttf")
    (tmp_path / "no.ttf").write_bytes(b"no font")
    with pytest.raises(ValueError, match=r"font .*no.ttf cannot be opened, unknown file format"):
        fonts.Font(tmp_path / "no.ttf")


def test_signs_side_by_side_are_no_picture(font):
    assert fonts.Font(font).draw(emoji_font.FACE * 2) is None


def test_a_tenth_of_the_pairs_is_held_out_and_both_parts_are_trained_on():
    every = {name for _, name in names.all_names()}
    pairs = {name: names.figure_and_tone(name) for name in every}
    toned = {name: pair for name, pair in pairs.items() if pair[1] is not None}
    held_out = names.held_out(every)
    assert len(held_out) == pytest.approx(len(toned) / 10, abs=3)
    rest = [pair for name, pair in toned.items() if name not in held_out]
    for name in held_out:
        figure, tone = toned[name]
        assert any(pair[0] == figure for pair in rest)
        assert any(pair[1] == tone for pair in rest)


def test_two_tones_in_a_name_are_no_pair():
    name = "people holding hands light skin tone dark skin tone"
    assert names.figure_and_tone(name) == (name, None)
    assert np.unique([names.figure_and_tone(f"x {tone} skin tone")[0] for tone in names.TONES]).tolist() == [
        "x"
    ]
