import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import evaluate
from experiments.report import captioned
from jaxflow.data.dataset import Dataset
from jaxflow.devices import mesh
from jaxflow.pretrained.extractors import Extractor
from jaxflow.runs.settings import Setting

COLOURS = ("red", "blue")


def captioned_images(n, seed):
    """A red or a blue square, sorted by colour."""
    generator = np.random.default_rng(seed)
    colours = np.arange(n) * 2 // n
    images = generator.integers(0, 100, (n, 4, 4, 3))
    images[np.arange(n), :, :, 2 * colours] += 150
    return images.astype(np.uint8), [f"a {COLOURS[c]} square" for c in colours]


class Judge:
    """Knows the colour of each word, from the images that have it."""

    def __init__(self, images, labels):
        found = [images[has].mean(axis=(0, 1, 2)) if has.any() else np.zeros(3) for has in labels.T]
        self.channels = [int(np.argmax(colour)) for colour in found]

    def outputs(self, images):
        means = images.mean(axis=(1, 2)) / 128.0 - 1
        return 5 * means[:, self.channels], images.reshape(len(images), -1)[:, :5] / 255.0


@pytest.fixture
def split(monkeypatch):
    monkeypatch.setattr(captioned, "train_judge", lambda key, images, labels, *_, **__: Judge(images, labels))
    train = Dataset.from_arrays(*captioned_images(600, 0)[:1], captions=captioned_images(600, 0)[1])
    test = dataclasses.replace(
        Dataset.from_arrays(*captioned_images(120, 1)[:1], captions=captioned_images(120, 1)[1]),
        codec=train.codec,
    )
    return {"train": train, "test": test}.__getitem__


def measure_of(real, **options):
    return captioned.Measure(real, seed=0, steps=1, sharding=mesh.on_one_device(), **options)


def perfect(prompts, seed):
    images, captions = captioned_images(2 * len(prompts), seed)
    queues = {caption: [i for i, other in enumerate(captions) if other == caption] for caption in prompts}
    return images[[queues[caption].pop() for caption in prompts]]


def test_a_perfect_generator_gets_what_real_images_get(split):
    real = captioned.read(split, 100)
    assert len(real.prompts) == len(real.wanted.number) == 100
    assert {real.prompts.count(f"a {colour} square") for colour in COLOURS} <= set(range(40, 61))
    measure = measure_of(real)
    generated, as_real = measure(perfect(real.prompts, 2)).figures, measure.real().figures
    of_classes = {"accuracy", "diversity", "entropy", "inception"}
    assert set(generated) == set(sum(evaluate.TABLES, ())) - of_classes - {"clip score"}
    assert measure.balance == "100 images of 2 different captions"
    assert generated["caption"] == as_real["caption"] == 1.0
    assert generated["frechet"] < 2 * as_real["frechet"]
    wrong = measure(perfect(real.prompts, 2)[..., ::-1]).figures
    assert wrong["caption"] == 0.0


class Colours:
    """Stands for CLIP: sees mean colours, and reads red or blue."""

    name = "colours"

    def __call__(self, images, sharding):
        return images.mean(axis=(1, 2)) - 50

    def encode(self, prompts):
        found = np.array([[prompt == f"a {colour} square" for colour in COLOURS] for prompt in prompts])
        return SimpleNamespace(projected=np.insert(found.astype(float), 1, 0, axis=1))


def test_the_clip_score_is_of_each_image_with_its_own_prompt(split):
    real = captioned.read(split, 100)
    measure = measure_of(real, extractor=Extractor(Colours(), Colours()))
    right, wrong = (measure(perfect(real.prompts, 2)[..., ::step]) for step in (1, -1))
    assert 90 < right.figures["clip score"] <= 100
    assert 90 < measure.real().figures["clip score"] <= 100
    assert wrong.figures["clip score"] < 30
    assert right.intervals["clip score"].low < right.figures["clip score"]
    assert "clip score" not in measure_of(real, extractor=Extractor(Colours())).real().figures


def test_no_more_prompts_than_held_out_captions(split):
    assert len(captioned.read(split, 10**6).prompts) == 120


def test_with_nothing_held_out_a_tenth_of_the_training_images_is_compared(split):
    opened = []
    real = captioned.read(lambda name: (opened.append(name), split(name))[1], 100, held_out=False)
    assert opened == ["train"]
    assert (len(real.train.captions), len(real.test.captions), len(real.prompts)) == (540, 60, 60)
    measure = measure_of(real)
    assert measure.label == "training"
    assert "hold_out = 0" in measure.warnings[0]


def test_captions_that_are_all_alike_have_no_fit_and_the_json_is_strict(split, tmp_path, capsys):
    real = captioned.read(split, 60)
    same = real._replace(
        train=real.train._replace(captions=["one"] * 600),
        prompts=["one"] * 60,
        test=real.test._replace(captions=["one"] * 120),
    )
    figures = measure_of(same)
    rows = [figures(perfect(real.prompts, 2))]
    assert np.isnan(rows[0].figures["caption"])
    evaluate.write(tmp_path, [Setting(1.0)], rows, figures, None, {"images_per_w": 60})
    result = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert result["table"]["caption"] == [None]
    assert result["real"]["caption"] is None
    assert result["intervals"]["real"]["caption"] == [None, None]
    assert np.shape(result["intervals"]["table"]["recall"]) == (1, 2)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].startswith("for each w 60 images of 1 different captions; compared with")
    assert printed[3].split()[:2] == ["1", "-"]
    assert max(map(len, printed[2:8])) <= 110
    assert (tmp_path / "evaluation.png").stat().st_size > 1000


def test_examples_without_captions_are_one_line(split):
    labelled = Dataset.from_arrays(np.zeros((9, 4, 4, 3), np.uint8), [0] * 9)
    with pytest.raises(ValueError, match="neither classes nor captions"):
        captioned.read(lambda name: labelled, 5)


def test_too_few_captions_are_rejected(split):
    with pytest.raises(ValueError, match="generated images: 1, must be at least 2"):
        captioned.read(split, 1)
