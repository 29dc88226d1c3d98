"""Text to image end to end, in miniature: shapes with captions, and a folder with a frozen encoder."""

import dataclasses
import json
import shutil
from functools import partial

import clip_folder
import jax
import numpy as np
import pytest
from PIL import Image

from experiments import evaluate, sample, sweep, train
from experiments.presets import folder as pictures_preset
from experiments.presets import shapes
from jaxflow import nn
from jaxflow.data.codecs import Captions
from jaxflow.pretrained import t5
from jaxflow.pretrained.joint_text import T5_LENGTH
from jaxflow.pretrained.text import PretrainedText
from jaxflow.runs.folder import open_run
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.shapes import builder as data

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

SMALL = [
    *("--steps", "4", "--batch-size", "8", "--checkpoint-every", "4"),
    *("--learning-rate", "0.02", "--warmup", "1", "--ema", "0", "--log-every", "1"),
    *("--sample-every", "0", "--parallel", "jit"),
]
PROMPT = "a large red circle left of a small blue square"


def use_tiny_network(patch, preset, **options):
    """Replace the preset's network, and the encoder of captions, until `patch` is undone."""
    network = nn.DiT(encode=None, patch=8, width=16, depth=1, heads=2, **options)
    experiment = dataclasses.replace(preset.experiment(), network=network)
    patch.setattr(preset, "experiment", lambda: experiment)
    patch.setattr(nn, "TextEncoder", partial(nn.TextEncoder, width=16, depth=1, heads=2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a few scenes of `shapes`."""
    place = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(data, "SCENES", {"train": 64, "test": 24, "held_out": 24})
        use_tiny_network(patch, shapes)
        train.main(["shapes", "--out", str(place / "run"), "--data-dir", str(place / "data"), *SMALL])
    return place / "run"


def test_a_run_of_captions_knows_their_words(trained):
    run = open_run(trained)
    assert isinstance(run.codec, Captions)
    assert run.experiment.network.cross_attention
    assert "triangle" in run.codec.words


def test_a_run_of_captions_resumes(trained, monkeypatch, capsys):
    use_tiny_network(monkeypatch, shapes)
    shutil.rmtree(trained / "checkpoints" / "4")  # as if killed after the save at step 2
    data_dir = str(trained.parent / "data")
    train.main(["shapes", "--out", str(trained), "--data-dir", data_dir, *SMALL])
    assert "trained to step 4" in capsys.readouterr().out
    assert (trained / "checkpoints" / "4").exists()
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_a_run_on_other_data_or_of_another_version_is_rejected(trained, tmp_path):
    run = open_run(trained)
    with pytest.raises(ValueError, match="the data have changed, words added: "):
        dataclasses.replace(run, codec=Captions(("a",), 16)).open_split("train")
    config = json.loads((trained / "config.json").read_text())
    del config["sha256"]  # which older versions did not write
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="damaged, or written by another version of jaxflow: KeyError"):
        open_run(tmp_path)


@pytest.mark.requirement("R20")
def test_prompts_and_negative_prompts(trained):
    def sampled(*arguments):
        sample.main(
            [
                str(trained),
                "--w",
                "1",
                "3",
                "--per-label",
                "2",
                "--steps",
                "2",
                *arguments,
                "--parallel",
                "jit",
            ]
        )
        return {w: dict(np.load(trained / "samples" / f"w={w}.npz")) for w in (1, 3)}

    plain = sampled("--prompt", PROMPT, "a green cross")
    assert plain[1]["images"].shape == (4, 32, 32, 3)
    assert plain[3]["prompts"].tolist() == [PROMPT, PROMPT, "a green cross", "a green cross"]
    with Image.open(trained / "samples" / "grid.png") as picture:
        assert np.asarray(picture).std() > 5
    away = sampled("--prompt", PROMPT, "a green cross", "--negative", "a yellow triangle")
    np.testing.assert_array_equal(away[1]["images"], plain[1]["images"])
    assert (away[3]["images"] != plain[3]["images"]).any()


@pytest.mark.requirement("R27")
def test_evaluation_reads_the_images_against_their_captions(trained, capsys):
    evaluate.main([str(trained), "--w", "1", "2", "--captions", "20", "--steps", "1", "--parallel", "jit"])
    result = json.loads((trained / "evaluation.json").read_text())
    for split in ("seen", "held out"):
        assert set(result["real"][split].values()) == {1.0}
        assert len(result["table"][split]) == 2
        for row in result["table"][split]:
            assert {"objects", "shape", "colour", "size", "relation", "all"} <= set(row)
            assert row["all"] < 0.5  # four steps teach nothing
    assert "held out" in capsys.readouterr().out
    with Image.open(trained / "evaluation.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        (sample, (), "prompt is missing"),
        (sample, ("--labels", "1"), "labels: the model was trained on captions"),
        (sample, ("--prompt", "a red dog"), "no caption has the word 'dog'"),
        (sample, ("--prompt", "a" + " a" * 20), "must be at most 16 words"),
        (sample, ("--prompt", PROMPT, "--negative", "blurry"), "no caption has the word 'blurry'"),
        (evaluate, ("--captions", "0"), "captions = 0"),
        (sweep, (), "prompt is missing: the model has prompts"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(trained, capsys, script, arguments, says):
    with pytest.raises(SystemExit) as stop:
        script.main([str(trained), *arguments])
    assert stop.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]


@pytest.fixture
def images(tmp_path):
    """Plain images of several sizes, each with its caption."""
    place = tmp_path / "images"
    place.mkdir()
    for i in range(30):
        colour = ("red", "green", "blue")[i % 3]
        Image.new("RGB", (40 + i, 50), colour).save(place / f"{i}.png")
        (place / f"{i}.txt").write_text(f"a photo of the cat, {colour}")
    return place


def test_a_folder_of_images_with_a_frozen_text_encoder(images, tmp_path, monkeypatch):
    clip_folder.write(tmp_path / "clip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use_tiny_network(monkeypatch, pictures_preset, qk_norm=True)
    out = tmp_path / "run"
    arguments = [
        *("folder", "--out", str(out), "--data-dir", str(images), "--image-size", "16"),
        *("--text-encoder", str(tmp_path / "clip"), *SMALL),
    ]
    train.main(arguments)
    run = open_run(out)
    assert run.codec == FrozenText(str(tmp_path / "clip"))
    with Image.open(out / "data.png") as page:
        assert page.width > 100
    prompt = ("--prompt", "a photo of the cat", "--per-label", "2", "--parallel", "jit")
    sample.main([str(out), "--w", "2", *prompt, "--steps", "1"])
    assert np.load(out / "samples" / "w=2.npz")["images"].shape == (2, 16, 16, 3)
    # The embeddings were cached, and are those of the caption.
    (kept,) = (tmp_path / "cache" / "jaxflow" / "captions").iterdir()
    tokens = np.load(kept / "tokens.npy")
    example = run.open_split("train").source[0]
    np.testing.assert_array_equal(example["text"].tokens, tokens[0].astype(np.float32))
    expected = run.codec.encode(example["caption"]).tokens
    np.testing.assert_allclose(example["text"].tokens, expected, atol=5e-3)  # cached in 16 bits


def test_a_run_begins_again_after_a_caption_was_corrected(images, tmp_path, monkeypatch, capsys):
    use_tiny_network(monkeypatch, pictures_preset)
    monkeypatch.setattr(train.Training, "run", lambda self: None)  # stopped at once, as by a signal
    out = tmp_path / "run"

    def begun():
        options = ("--data-dir", str(images), "--image-size", "16", "--hold-out", "0")
        train.main(["folder", "--out", str(out), *options, *SMALL])
        return capsys.readouterr().out

    caption = images / "1.txt"
    right = caption.read_text()
    caption.write_text(right.replace("cat", "catt"))
    assert "data: 30 images to train on" in begun()
    codec = open_run(out).codec
    caption.write_text(right)
    said = begun()
    assert "'catt'" in said
    assert "data: changed since the run began" in said
    assert open_run(out).codec == codec
    caption.write_text("a photo of the zebra")
    with pytest.raises(SystemExit) as stop:
        begun()
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "zebra" in error
    assert len(error) < 400


@pytest.mark.parametrize("place", [".", "text_encoder"])
def test_the_kind_of_an_encoder_is_that_of_its_configuration(tmp_path, monkeypatch, place):
    """In an encoder's folder and in a pipeline's."""
    (tmp_path / place).mkdir(exist_ok=True)
    config = tmp_path / place / "config.json"
    made, asked = object.__new__(PretrainedText), []
    monkeypatch.setattr(t5, "load", lambda *arguments, **_: asked.append(arguments) or made)
    config.write_text('{"model_type": "t5"}')
    assert FrozenText(str(tmp_path)).encoder is made
    assert asked == [(str(tmp_path), T5_LENGTH)]
    config.write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds a list: expected an object"):
        FrozenText(str(tmp_path)).encoder  # noqa: B018


def test_a_text_encoder_needs_captions(images, tmp_path, capsys):
    for caption in images.glob("*.txt"):
        caption.unlink()
    clip_folder.write(tmp_path / "clip")
    with pytest.raises(SystemExit) as stop:
        train.main(
            [
                *("folder", "--out", str(tmp_path / "run"), "--data-dir", str(images)),
                *("--text-encoder", str(tmp_path / "clip")),
            ]
        )
    assert stop.value.code == 2
    assert "the images have classes, not captions" in capsys.readouterr().err
