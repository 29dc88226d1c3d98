"""The scripts on a published model: sampling, edits, the page of a sweep, fine-tuning by an adapter."""

import json

import image_folders
import jax
import jaxtyping
import numpy as np
import pipelines
import pytest
from conftest import Lazy
from PIL import Image

import jaxflow
from experiments import evaluate, export, sample, sweep, train
from jaxflow.pretrained import tensors
from jaxflow.runs import folder

safetensors = Lazy("safetensors.numpy")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small Stable Diffusion for images of 16 x 16."""
    one = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    options = {"block_out_channels": (8,), "attention_head_dim": 2} | one
    return pipelines.stable_diffusion(tmp_path_factory.mktemp("sd"), **options)[1]


@pytest.fixture(scope="module")
def dit_place(tmp_path_factory):
    """A small DiT with classes."""
    return pipelines.dit(tmp_path_factory.mktemp("dit"))[1]


def test_prompts_are_drawn_as_pictures(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sample, "LARGE", 16)
    prompts = ["--prompt", "the cat", "a photo of the cat", "--negative", "and"]
    sample.main([str(place), *prompts, "--steps", "2", "--parallel", "jit", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "pipeline, 16 x 16 x 3, prompts, read by" in said
    assert "s per image, with compilation" in said
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"grid.png", "w=5.npz", "w=5-0-0.png", "w=5-1-0.png"}
    with np.load(tmp_path / "w=5.npz") as arrays:
        assert arrays["images"].shape == (2, 16, 16, 3)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "w=5-1-0.png")), arrays["images"][1])


def test_a_picture_is_varied_and_completed(dit_place, tmp_path, capsys):
    image_folders.save(image_folders.halves(20, 30), tmp_path / "picture.png")
    image_folders.save(image_folders.halves()[..., 2], tmp_path / "mask.png")
    common = [str(dit_place), "--labels", "tench", "--steps", "2", "--solver", "euler", "--per-label", "2"]
    common += ["--parallel", "jit"]
    start = ["--from", str(tmp_path / "picture.png")]
    for name, options in (("vary", []), ("mask", ["--mask", str(tmp_path / "mask.png"), "--repeats", "2"])):
        sample.main([*common, *start, *options, "--out", str(tmp_path / name)])
        with np.load(tmp_path / name / "w=5.npz") as arrays:
            assert arrays["images"].shape == (2, 16, 16, 3)
    for options, says in (
        (["--strength", "0.5"], "strength has no effect without --from"),
        ([*start, "--strength", "7"], "strength = 7.0: must be in [0, 1]"),
        ([*start, "--repeats", "2"], "repeats has no effect without --mask"),
        ([*start, "--mask", str(tmp_path / "mask.png"), "--strength", "0.1"], "strength has no effect with"),
        (["--from", str(tmp_path / "none.png")], "picture"),
        ([*start, "--solver", "ddpm"], "solver = 'ddpm': cannot edit a picture"),
    ):
        with pytest.raises(SystemExit) as stop:
            sample.main([*common, *options, "--out", str(tmp_path)])
        assert stop.value.code == 2
        assert says in capsys.readouterr().err


def test_images_have_another_size_where_the_network_can(place, dit_place, tmp_path, capsys):
    common = [str(place), "--prompt", "the cat", "--steps", "1", "--solver", "euler", "--out", str(tmp_path)]
    common += ["--parallel", "jit"]
    sample.main([*common, "--size", "24", "16", "--w", "1"])
    with np.load(tmp_path / "w=1.npz") as arrays:
        assert arrays["images"].shape == (1, 24, 16, 3)
    with pytest.raises(SystemExit) as stop:
        sample.main([*common, "--size", "15", "16"])
    assert stop.value.code == 2
    assert "size = 15 x 16: the model cannot have this size" in capsys.readouterr().err


def test_rules_of_each_kind_are_swept_on_one_page(place, tmp_path, capsys):
    """Of three calls, with memory, with a worse model; there are no classes for a classifier's."""
    rules = ["rectified", "projected", "autoguidance"]
    options = ["--prompt", "the cat", "--w", "1", "3", "--steps", "2", "--worse", str(place)]
    common = ["--parallel", "jit", "--chunk", "2", "--out", str(tmp_path)]
    sweep.main([str(place), "--rules", *rules, *options, *common])
    page = np.asarray(Image.open(tmp_path / "sweep.png"))
    assert page.ndim == 3
    assert page.std() > 1
    assert str(tmp_path / "sweep.png") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "options", "says"),
    [
        (sweep, [], "prompt is missing: the model has prompts"),
        (sweep, ["--labels", "0"], "prompt is missing: the model has prompts"),
        (sample, [], "prompt is missing"),
        (sample, ["--labels", "0"], "labels: the model was trained on captions; choose by --prompt"),
        (sample, ["--prompt", "a", "--rule", "classifier"], "rule = 'classifier': requires a classifier"),
        (sample, ["--prompt", "a", "--rule", "none"], "rule = 'none': must be one of"),
        (sample, ["--prompt", "a", "--solver", "none", "--size", "24", "24"], "solver = 'none': must be one"),
        (sample, ["--prompt", "a", "--w", "inf"], "w = inf: the guidance scale must be finite"),
        (sample, ["--prompt", "a", "--sigma", "1", "--solver", "heun"], "'heun' is not a solver of the SDE"),
        (sample, ["--prompt", "a", "--shift", "2000"], "shift = 2000.0: must be from 0.001 to 1000"),
        (sweep, ["--prompt", "a", "--rules", "none"], "rule = 'none': must be one of"),
        (sample, ["--prompt", "a", "--adapter-scales", "2"], "adapter_scales: 1 numbers for 0 adapters"),
        (evaluate, [], "published and fine-tuned models have no data to compare with"),
    ],
)
def test_what_a_published_model_lacks_is_said(place, script, options, says, capsys, monkeypatch):
    """Before its network and text encoder are read."""
    # Checks of types would ask the codec for null, and so read the text encoder, when the model is made.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    numbers, read = tensors._read, set()
    monkeypatch.setattr(tensors, "_read", lambda file, *of: read.add(file.parent.name) or numbers(file, *of))
    with pytest.raises(SystemExit) as stop:
        script.main([str(place), *options])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert read <= {"vae"}


def test_classes_of_a_published_model_are_chosen_by_name(dit_place, tmp_path, capsys):
    common = ["--steps", "1", "--out", str(tmp_path)]
    sample.main([str(dit_place), "--labels", "tench", "2", *common])
    with np.load(tmp_path / "w=5.npz") as arrays:
        assert arrays["labels"].tolist() == [0, 2]
    sweep.main([str(dit_place), "--labels", "tench", "--rules", "three_channels", "--w", "2", *common])
    sample.main([str(dit_place / "transformer"), "--autoencoder", str(dit_place / "vae"), "--describe"])
    assert "0  tench" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tuned(place, tmp_path_factory):
    """A fine-tuning of an adapter on captioned pictures: two steps, then resumed for two more."""
    root = tmp_path_factory.mktemp("tuned")
    image_folders.captioned(root / "pictures", count=12)
    places = ["--model", str(place), "--data-dir", str(root / "pictures"), "--out", str(root / "run")]
    for steps in ("2", "4"):
        numbers = ["--batch-size", "4", "--rank", "2", "--learning-rate", "0.1", "--steps", steps]
        with jax.numpy_dtype_promotion("standard"):  # for optax
            train.main(["fine_tune", *places, *numbers])
    return root / "run"


def test_fine_tuning_trains_an_adapter_and_nothing_else(place, tuned, capsys):
    before, after = jaxflow.load(place), jaxflow.load(tuned)
    assert after.step == 4
    same = jax.tree.map(np.array_equal, before.params, after.params)
    changed = {jax.tree_util.keystr(path) for path, one in jax.tree.leaves_with_path(same) if not one}
    assert changed
    assert all("_attention']" in name and name.endswith("['kernel']") for name in changed)
    assert not json.loads((tuned / "config.json").read_text())["experiment"].get("network")


def test_a_fine_tuned_model_is_sampled_and_its_adapter_exported(place, tuned, tmp_path, capsys):
    common = ["--prompt", "picture one", "--steps", "1", "--solver", "euler", "--w", "2"]
    sample.main([str(tuned), *common, "--out", str(tmp_path / "tuned")])
    export.main([str(tuned), "--out", str(tmp_path / "adapter.safetensors")])
    adapter = ["--adapters", str(tmp_path / "adapter.safetensors")]
    sample.main([str(place), *common, *adapter, "--out", str(tmp_path / "adapted")])
    images = []
    for name in ("tuned", "adapted"):
        with np.load(tmp_path / name / "w=2.npz") as arrays:
            images.append(arrays["images"])
    assert np.array_equal(*images)
    names = safetensors.load_file(tmp_path / "adapter.safetensors")
    assert any(name.endswith("attn2.to_out.0.lora_B.weight") for name in names)
    sample.main([str(tuned), "--describe"])
    assert "4 steps" in capsys.readouterr().out


def test_a_whole_network_is_fine_tuned(dit_place, tmp_path):
    """A published one of classes; every parameter may change."""
    names = [f"{name}/{i}.png" for name in ("tench", "crane") for i in "0123"]
    image_folders.plain(tmp_path / "pictures", names)
    places = ["--data-dir", str(tmp_path / "pictures"), "--out", str(tmp_path / "run")]
    numbers = ["--hold-out", "0", "--batch-size", "4", "--steps", "1", "--rank", "None"]
    train.main(["fine_tune", "--model", str(dit_place), *places, *numbers])
    before, after = jaxflow.load(dit_place), jaxflow.load(tmp_path / "run")
    same = jax.tree.leaves(jax.tree.map(np.array_equal, before.params, after.params))
    assert sum(same) < len(same) / 10
    with pytest.raises(SystemExit):
        export.main([str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "model is missing: --model RUN"),
        (["--model", "nowhere"], "nowhere does not exist"),
        (
            ["--model", "PLACE", "--kernels", "nothing"],
            "kernels = 'nothing': no path of a matrix",
        ),
        (["--model", "DIT"], "dataset = folder: it has captions, and the model classes"),
    ],
)
def test_what_cannot_be_fine_tuned_is_said(place, dit_place, options, says, tmp_path, capsys):
    image_folders.captioned(tmp_path / "pictures", count=12)
    known = {"PLACE": str(place), "DIT": str(dit_place)}
    options = [known.get(option, option) for option in options]
    rest = ["--data-dir", str(tmp_path / "pictures"), "--batch-size", "4", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        train.main(["fine_tune", *options, *rest])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert not folder.has_run(tmp_path / "run")
