"""What `sample` makes of its options, and what it prints."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import notes, sample
from experiments.clips import Clips
from experiments.opening import Source, open_model
from experiments.presets import digits
from jaxflow import spaces
from jaxflow.data.codecs import ONE_CLASS, Captions, Classes
from jaxflow.runs import folder
from jaxflow.runs.configuration import fitted
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow.runs.settings import Setting

CODECS = {
    "classes": Classes(("cat", "dog", "10", "with space")),
    "captions": Captions(("a", "red", "circle"), 4),
    "one": ONE_CLASS,
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Models of each kind, and a second source of one."""
    root = tmp_path_factory.mktemp("models")

    def export(name, codec):
        network = digits.experiment().network.clone(width=16, depth=1, heads=2)
        experiment = fitted(replace(digits.experiment(), network=network), codec)
        run = Run(experiment, "", spaces.Pixels((8, 8, 1)), codec)
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), run.shapes)
        folder.export(root / f"{name}.safetensors", run, params, 1200)
        return root / f"{name}.safetensors"

    places = {name: export(name, codec) for name, codec in CODECS.items()}
    return lambda name, **source: open_model(places[name], Source(**source))


def arguments(**options):
    return sample.Arguments(model="", **options)


def wanted(opened, asked):
    return sample.wanted_of(opened.model, sample.rows_of(opened, asked), asked, len(asked.w))


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [(None, [0, 1, 2, 3]), (("dog", "0"), [1, 0]), (("10", "with space", "3"), [2, 3, 3])],
)
def test_labels_are_names_or_else_numbers(opened, labels, numbers):
    rows = sample.rows_of(opened("classes"), arguments(labels=labels))
    assert rows.values.tolist() == numbers
    assert rows.names == [CODECS["classes"].names[number] for number in numbers]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("classes", {"labels": ("cat", "Dog")}, r"labels\[1\]: label = 'Dog': the classes are 0 cat, 1 dog"),
        ("classes", {"labels": ("4",)}, r"labels\[0\]: label = 4: the classes are"),
        ("classes", {"labels": ("-1",)}, "label = -1: the classes are"),
        *(
            ("classes", {"labels": (odd,)}, r"labels\[0\]: label = .*the classes are 0 cat")
            for odd in (
                "",
                " cat",
                "cat ",
                "--1",
                "1.0",
                "+1",
                "1_0",
                "\u0661",
                "9" * 5000,
                "x" * 10**6,
                "cat\n",
            )
        ),
        ("classes", {"prompt": ("a",)}, "prompt: the model was trained on 4 classes"),
        ("captions", {}, "prompt is missing"),
        ("captions", {"labels": ("0",)}, "labels: the model was trained on captions"),
    ],
)
def test_rows_that_there_are_not_are_rejected(opened, name, options, says):
    with pytest.raises(ValueError, match=says) as rejected:
        sample.rows_of(opened(name), arguments(**options))
    assert len(str(rejected.value)) < 300


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"w": ()}, r"w = \(\): expected at least one value"),
        ({"w": (2.0, 1.0, 2.0)}, "w = 2: given twice"),
        ({"w": tuple(float(w) for w in range(250))}, "w: 250 scales, must be at most 100"),
        ({"w": (0.0, -0.0)}, "w = -0: given twice"),
        ({"labels": ()}, r"labels = \(\): .* --describe lists them"),
        ({"per_label": 0}, "per_label = 0: must be at least 1"),
        ({"per_label": 10**10}, "per_label = 10000000000: must be at most 2147483647"),
        ({"seed": -1}, "seed = -1: must be from 0 to 4294967295"),
        ({"seed": 10**30}, "seed = 1000000000000000000000000000000: must be from 0 to 4294967295"),
    ],
)
def test_options_have_ranges(options, says):
    with pytest.raises(ValueError, match=says):
        sample.check(arguments(**options))


def test_images_beyond_the_memory_are_rejected_before_they_are_listed(opened):
    model = opened("classes")
    asked = arguments(per_label=10**9)
    with pytest.raises(ValueError, match=r"^rows x per_label = 5 x 1000000000 images take .*at most"):
        wanted(model, asked)
    many, large = ("cat",) * 3000, ("cat",) * 1000
    for asked, says in (
        (arguments(labels=many), "labels: 3000 rows, must be at most 1000"),
        (arguments(labels=large, w=tuple(map(float, range(100)))), "a page of 100 scales and 1001 rows"),
    ):
        with pytest.raises(ValueError, match=says):
            wanted(model, asked)


def test_every_scale_has_its_file(tmp_path, capsys):
    rows = sample.Rows([0, 1], ["cat", "dog"], "labels", np.array([0, 1], np.int32))
    scales = (2.0, -0.0, 1.000001, 1.000002, 123456.7, 123456.8, 0.3, 0.1 + 0.2, 1e-300, 1e37, -1.5)
    panels = {Setting(w): np.full((6, 8, 8, 1), i, np.uint8) for i, w in enumerate(scales)}
    sample.write(tmp_path, panels, rows, 2, Clips())
    files = {float(file.stem.removeprefix("w=")): np.load(file) for file in tmp_path.glob("*.npz")}
    assert files.keys() == set(scales)
    assert {(tmp_path / f"w={name}.npz").exists() for name in ("2", "0", "1.000001")} == {True}
    for setting, images in panels.items():
        np.testing.assert_array_equal(files[setting.w]["images"], images[:4])
        assert files[setting.w]["labels"].tolist() == [0, 0, 1, 1]
    assert f"4 images for each of {len(scales)} w" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("classes", {}, []),
        ("classes", {"scales": (1.0,)}, []),
        ("classes", {"scales": (1.0,), "rule": "rescaled"}, ["--rule rescaled has no effect at w = 1"]),
        ("classes", {"scales": (1.0, 2.0), "rule": "rescaled"}, []),
        ("classes", {"scales": (1.0,), "rule": "classifier"}, []),
        ("classes", {"scales": (1.0,), "rule": "zero_star"}, ["--rule zero_star has no effect at w = 1"]),
        ("classes", {"scales": (1.0,), "rule": "zero_star", "steps": 25}, []),
        ("classes", {"scales": (0.0,), "asked": (1,)}, ["--labels and --prompt have no effect at w = 0"]),
        ("classes", {"scales": (0.0,), "asked": (1,), "interval": (0.2, 0.8)}, []),
        ("classes", {"scales": (0.0, 2.0), "asked": (1,)}, []),
        ("classes", {"scales": (1.0,), "interval": (0.2, 0.8)}, ["--interval has no effect at w = 1"]),
        ("classes", {"interval": (0.2, 0.8)}, []),
        ("classes", {"negative": 0}, []),
        ("classes", {"scales": (1.0, 3.0), "negative": 0}, ["--negative has no effect at w = 1"]),
        ("classes", {"scales": (0.0, 3.0), "negative": 0}, ["at w = 0 all images are those of --negative"]),
        ("classes", {"negative": 0, "asked": (0, 1)}, ["--negative cat is also a row"]),
        ("classes", {"negative": 0, "rule": "autoguidance"}, ["--negative has no effect with --rule auto"]),
        ("classes", {"source": {"classifier_steps": 5}}, ["--classifier-steps has no effect without"]),
        ("classes", {"source": {"data_dir": "x"}}, ["--data-dir has no effect without --rule classifier"]),
        ("captions", {"negative": "red", "asked": ("a red", "red")}, ["--negative red is also a row"]),
        ("one", {}, ["there is one class only"]),
    ],
)
def test_options_without_effect_are_named(opened, name, options, says):
    options = {"rule": "classifier_free", "scales": (2.0,), "asked": (), "negative": None} | options
    sampler = Sampler(options.pop("steps", 10), interval=options.pop("interval", None))
    source = options.pop("source", {})
    model = opened(name, **source)
    lines = [*notes.without_effect(model.model.codec, sampler, **options)]
    lines += model.source.without_effect(options["rule"])
    assert len(lines) == len(says)
    assert all(line.startswith(start) for line, start in zip(lines, says, strict=True))
    assert all(len(f"note: {line}") <= 80 for line in lines)


def test_a_worse_model_without_autoguidance_is_named(opened):
    source = opened("classes", worse=str(opened("classes").place)).source
    for rule, says in (
        ("classifier_free", ["--worse has no effect without --rule autoguidance"]),
        ("autoguidance", []),
    ):
        assert list(source.without_effect(rule)) == says


@pytest.mark.parametrize("name", CODECS)
def test_a_description_names_every_class_or_word_within_80_columns(opened, name):
    model = opened(name).read()
    text = notes.description(model.origin, model.model, {None: Sampler(interval=(0.2, 0.8))}, 0.0)
    assert "10 steps, guided from t = 0.2 to 0.8" in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(notes.summary(model.title, model.model)) <= 80
    assert "1,200" in text
    codec = CODECS[name]
    for word in codec.words if isinstance(codec, Captions) else codec.names:
        assert word in text


def test_a_description_writes_nothing(opened, capsys):
    place: Path = opened("classes").place
    before = sorted(place.parent.iterdir())
    sample.main([str(place), "--describe"])
    assert "  1  dog" in capsys.readouterr().out
    assert sorted(place.parent.iterdir()) == before


def test_a_read_only_folder_is_rejected_before_sampling(opened, tmp_path, monkeypatch, capsys):
    """It may be there already, as in a run of someone else."""
    monkeypatch.setattr("os.access", lambda place, mode: False)
    with pytest.raises(SystemExit) as end:
        sample.main([str(opened("classes").place), "--out", str(tmp_path)])
    assert end.value.code == 2
    assert f"out = {tmp_path}: the folder is read-only: choose another --out" in capsys.readouterr().err
