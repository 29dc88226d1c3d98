import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.report.contact_sheet import contact_sheet
from jaxflow.data.codecs import Classes, vocabulary_of
from jaxflow.data.dataset import Dataset

COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 220)]


class Source:
    """Images of one colour; remembers which were asked for."""

    def __init__(self, said, channels=3):
        self.said, self.channels, self.asked = said, channels, []

    def __len__(self):
        return len(self.said)

    def __getitems__(self, positions):
        self.asked += positions
        pixels = [np.uint8(COLOURS[i % 3][: self.channels]) for i in positions]
        images = [np.broadcast_to(p, (16, 16, self.channels)) for p in pixels]
        return [{"image": image} | self.said[i] for image, i in zip(images, positions, strict=True)]


def of_classes(count, channels=3):
    source = Source([{"label": i % 2} for i in range(count)], channels)
    return Dataset(source, (16, 16, channels), Classes(("cat", "dog")))


def of_captions(captions):
    return Dataset(Source([{"caption": c} for c in captions]), (16, 16, 3), vocabulary_of(captions))


@pytest.fixture
def written(monkeypatch):
    """The texts of the page, as it is saved."""
    texts = []
    save = Figure.savefig

    def recording(figure, *args, **kwargs):
        texts.extend(text.get_text() for text in figure.texts)
        texts.extend(text.get_text() for ax in figure.axes for text in ax.texts)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", recording)
    return texts


def page(file: Path):
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_the_images_are_on_the_page_in_their_colours(tmp_path, written):
    contact_sheet(of_classes(3), tmp_path / "page.png")
    pixels = page(tmp_path / "page.png").reshape(-1, 3)
    areas = [int((pixels == colour).all(axis=1).sum()) for colour in COLOURS]
    assert min(areas) > 0.95 * (1.2 * 150) ** 2
    assert max(areas) < 1.05 * (1.2 * 150) ** 2
    assert written == ["3 images of 16 x 16", "", "cat", "dog", "cat"]


def test_of_many_images_40_are_shown_evenly_from_first_to_last(tmp_path, written):
    dataset = of_classes(1001)
    contact_sheet(dataset, tmp_path / "page.png")
    assert len(dataset.source.asked) == 40
    assert (dataset.source.asked[0], dataset.source.asked[-1]) == (0, 1000)
    assert set(np.diff(dataset.source.asked)) <= {25, 26}
    assert written[0] == "1,001 images of 16 x 16, 40 shown"


def test_notes_are_at_the_head(tmp_path, written):
    contact_sheet(of_classes(1), tmp_path / "page.png", ("from a $folder$", "ignored: 3 .heic"))
    assert written[:2] == ["1 image of 16 x 16", "from a $folder$\nignored: 3 .heic"]


def test_long_captions_are_shortened_and_signs_are_no_mathematics(tmp_path, written):
    long = "a picture of which so very much is said " * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet(of_captions(["costs $5 and ${6", long, "日本"]), tmp_path / "page.png")
    costs, cut, japanese = written[2:]
    assert costs == "costs $5 and ${6"
    assert japanese == "日本"
    lines = cut.split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 22
    assert cut.startswith("a picture of which so")
    assert cut.endswith("...")


@pytest.mark.parametrize("name", ["$x_1$", "\x07bell", "\U0001f600", "e\u0301", "\udcff", "x" * 5000, "a\nb"])
def test_odd_names_of_classes_are_drawn(name, tmp_path):
    source = Source([{"label": 0}, {"label": 1}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet(Dataset(source, (16, 16, 3), Classes((name, "dog"))), tmp_path / "page.png")
    assert page(tmp_path / "page.png").size > 0


def test_grey_images(tmp_path):
    contact_sheet(of_classes(2, channels=1), tmp_path / "page.png")
    pixels = page(tmp_path / "page.png").reshape(-1, 3)
    for (level, *_), _ in zip(COLOURS, range(2), strict=False):
        assert (pixels == level).all(axis=1).sum() > 0.95 * (1.2 * 150) ** 2
