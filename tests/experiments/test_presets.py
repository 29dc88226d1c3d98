"""A user's file as a preset: with its own network, path and data, and with mistakes."""

import json
import sys

import numpy as np
import pytest

from experiments import evaluate, export, presets, sample, train
from jaxflow import load

pytestmark = pytest.mark.usefixtures("standard_promotion")

OWN = """
from dataclasses import dataclass
import jax, jax.numpy as jnp, numpy as np
from jaxflow.data.dataset import Dataset
from jaxflow.runs.configuration import Experiment

@dataclass(frozen=True)
class Perceptron:
    channels: int = 8
    layers: tuple[int, ...] = (1,)
    def init(self, key, x, t, y):
        d, c = x[0].size, self.channels
        return {"in": jax.random.normal(key, (d, c)), "y": jnp.zeros((4, c)), "out": jnp.zeros((c, d))}
    def apply(self, params, x, t, y):
        h = jax.nn.silu(x.reshape(len(x), -1) @ params["in"] + params["y"][y] + t[:, None])
        return (h @ params["out"]).reshape(x.shape)

@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bent:
    power: float = 2.0
    def alpha(self, t): return t**self.power
    def beta(self, t): return 1 - t

def experiment():
    numbers = {"steps": 4, "batch_size": 8, "sample_every": 0, "prediction": "v"}
    return Experiment(dataset="dots", network=Perceptron(), path=Bent(), **numbers)

def dataset(split):
    labels = np.arange(40) % 3
    images = (labels[:, None, None] * 100 + np.arange(16).reshape(4, 4)).astype(np.uint8)
    return Dataset.from_arrays(images, labels, names=NAMES)

NAMES = ("dark", "grey", "light")
"""


@pytest.fixture
def preset(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def rejected(capsys, script, *arguments):
    """The one line of the error."""
    with pytest.raises(SystemExit) as stop:
        script.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


def test_a_run_of_your_own_is_trained_resumed_exported_and_sampled(preset, tmp_path, capsys):
    run = tmp_path / "run"
    train.main([str(preset), "--out", str(run), "--network.channels", "4", "--path.power", "1.5"])
    train.main(
        [str(preset), "--out", str(run), "--network.channels", "4", "--path.power", "1.5", "--steps", "6"]
    )
    config = json.loads((run / "config.json").read_text())["experiment"]
    assert (config["network"]["channels"], config["path"]["power"]) == (4, 1.5)
    export.main([str(run), "--preset", str(preset)])
    options = ["--w", "2", "--labels", "grey", "0", "--negative", "2", "--per-label", "1", "--steps", "2"]
    for place in (run, run / "model.safetensors"):
        sample.main([str(place), "--preset", str(preset), *options, "--out", str(tmp_path / place.name)])
    drawn = [np.load(tmp_path / name / "w=2.npz") for name in ("run", "model.safetensors")]
    np.testing.assert_array_equal(drawn[0]["images"], drawn[1]["images"])
    assert drawn[0]["labels"].tolist() == [1, 0]
    evaluate.main(
        [
            str(run),
            "--preset",
            str(preset),
            "--w",
            "1",
            "--per-label",
            "4",
            "--steps",
            "1",
            "--judge-steps",
            "1",
        ]
    )
    own = presets.load(str(preset))
    assert load(run, own.classes).sample(0, ["light"]).shape == (1, 4, 4, 1)
    assert "'Perceptron' is unknown" in rejected(capsys, sample, run)
    preset.write_text(OWN.replace('"dark"', '"black"'))
    assert "has other classes" in rejected(capsys, evaluate, run, "--preset", preset)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def experiment(:", "SyntaxError"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1", "expected a function experiment() that returns an Experiment"),
        ("def experiment(): return 7", "expected a function experiment() that returns an Experiment"),
        ("def experiment(): raise KeyError('a')", "KeyError: 'a'"),
        (OWN + "\ndef dataset(split): return None", "dataset('train') returns None, not a jaxflow Dataset"),
        (OWN + "\ndef dataset(split): raise OSError('gone')", "OSError: gone"),
        (OWN.replace("h @ params", "params"), "network: "),
        (OWN.replace(".reshape(x.shape)\n\n", "\n\n"), "for x of shape (2, 4, 4, 1): they must be equal"),
        (OWN.replace("(frozen=True)\nclass Perc", "\nclass Perc"), "must be frozen dataclasses"),
    ],
)
def test_a_file_with_a_mistake_is_one_line(tmp_path, capsys, code, says):
    (tmp_path / "own.py").write_text(code)
    error = rejected(capsys, train, tmp_path / "own.py", "--out", tmp_path / "run")
    assert says in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "value"), [("--image-size", "16"), ("--data-dir", "data")])
def test_options_for_data_that_the_preset_brings_are_rejected(preset, tmp_path, capsys, option, value):
    error = rejected(capsys, train, preset, "--out", tmp_path / "run", option, value)
    assert "the preset brings its own data" in error


def test_a_file_named_like_a_library_does_not_shadow_it(tmp_path):
    (tmp_path / "json.py").write_text(OWN)
    presets.load(str(tmp_path / "json.py"))
    assert sys.modules["json"] is json
