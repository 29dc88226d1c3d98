"""Two stages through the scripts: an autoencoder, and a flow in its latents; resumed, sampled, exported."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import published_taesd
import pytest
from PIL import Image
from small_digits import NETWORK

import jaxflow
from experiments import evaluate, export, sample, train
from jaxflow.data.batches import load
from jaxflow.data.datasets import open_dataset
from jaxflow.evaluation.psnr import psnr
from jaxflow.runs import autoencoders
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.folder import newest_params, open_before, open_run
from jaxflow.spaces import Latents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

STEPS = (
    *("--steps", 4, "--batch-size", 16, "--checkpoint-every", 4, "--log-every", 1, "--sample-every", 4),
    *("--parallel", "jit"),
)
FLOW = (*STEPS, "--network.patch", 1, *NETWORK)
TINY = ("--network.channels", 8, "--network.patch", 4, "--network.groups", 4, "--network.no-attention")


def call(script, *arguments):
    script.main([str(argument) for argument in arguments])


def rejected(capsys, script, *arguments):
    """The one line of an error with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        call(script, *arguments)
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, data_dir):
    """The run of the first stage."""
    out = tmp_path_factory.mktemp("runs") / "autoencoder"
    with jax.numpy_dtype_promotion("standard"):
        options = ("--beta", 0.5, "--beta-warmup", 4, "--adversarial-weight", 0.1, "--adversarial-start", 3)
        options += ("--discriminator.channels", 8)
        call(train, "autoencoder", "--out", out, "--data-dir", data_dir, *STEPS, *TINY, *options)
    return out


@pytest.fixture(scope="module")
def trained(autoencoder, data_dir):
    """The run of the second."""
    out = autoencoder.parent / "flow"
    with jax.numpy_dtype_promotion("standard"):
        call(train, "digits", "--autoencoder", autoencoder, "--out", out, "--data-dir", data_dir, *FLOW)
    return out


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_autoencoder_is_trained(autoencoder):
    assert len(losses(autoencoder)) == 4
    with Image.open(autoencoder / "samples" / "step=4.png") as picture:
        assert np.asarray(picture).std() > 5
    of = jaxflow.load_autoencoder(autoencoder)
    assert (of.network.image_channels, of.network.factor, of.network.variational) == (1, 4, True)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 8, 1), dtype=np.uint8)
    assert of.encode(images).shape == (2, 4, 2, 4)
    assert of.decode(of.encode(images)).shape == images.shape


def test_the_weight_of_the_divergence_rises_and_that_of_the_discriminator_starts_late(autoencoder):
    run = open_before(autoencoder, AutoencoderRun)
    batches = [{"number": jax.numpy.arange(3)}] * 5
    for name, expected in {
        "beta": [0.25, 0.375, 0.5, 0.5, 0.5],
        "adversarial": [0, 0, 0.1, 0.1, 0.1],
    }.items():
        weights = [batch[name] for batch in run.warmed(iter(batches), 1)]
        np.testing.assert_allclose(np.stack(weights)[:, 0], expected, rtol=1e-6)


def test_the_discriminator_learns_before_its_verdict_counts(autoencoder):
    run = open_before(autoencoder, AutoencoderRun)
    trained, initial = newest_params(autoencoder, run)[1], run.initial_params(jax.random.key(0))
    assert trained.keys() == {"autoencoder", "discriminator"}
    for name in trained:
        moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), trained[name], initial[name])
        assert min(jax.tree.leaves(moved)) > 0


@pytest.mark.requirement("R56", "R62")
def test_a_flow_is_trained_in_latents(trained):
    run = open_run(trained)
    assert isinstance(run.space, Latents)
    assert run.space.event_shape == (2, 2, 4)
    assert run.space.image_shape == (8, 8, 1)
    assert len(losses(trained)) == 4
    assert 1.5 < losses(trained)[0] < 2.5  # of data and noise of variance 1, without motion: 2
    assert (trained / "samples" / "step=4.png").exists()


@pytest.mark.requirement("R57")
def test_what_the_autoencoder_loses_is_reported_beside_what_the_flow_does(trained, data_dir, capsys):
    options = ("--per-label", 2, "--steps", 2, "--judge-steps", 3, "--parallel", "jit")
    call(evaluate, trained, "--w", 1, *options)
    result, printed = json.loads((trained / "evaluation.json").read_text()), capsys.readouterr().out
    assert result["decoded"].keys() == result["real"].keys()
    assert result["decoded"]["frechet"] > 2 * result["real"]["frechet"]  # of an untrained one
    images = load(open_dataset("digits", "test", str(data_dir)))["image"]
    of = jaxflow.load_autoencoder(trained)
    expected = np.median(psnr(images, np.asarray(of.decode(of.encode(images)))))
    assert result["decoded_psnr"] == pytest.approx(expected, abs=0.3)  # over a part of them
    assert f"decoded: median PSNR {result['decoded_psnr']:.4g} dB" in printed


def test_sampling_needs_nothing_but_the_folder_or_the_file(trained, tmp_path, autoencoder):
    model = jaxflow.load(shutil.copytree(trained, tmp_path / "elsewhere"))
    images = model.sample(0, [3, 7], w=2.0, steps=2)
    assert (images.shape, images.dtype) == ((2, 8, 8, 1), np.uint8)
    file = tmp_path / "model.safetensors"
    call(export, trained, "--out", file)
    assert str(autoencoder).encode() not in file.read_bytes()
    np.testing.assert_array_equal(jaxflow.load(file).sample(0, [3, 7], w=2.0, steps=2), images)
    made = {}
    for parallel in ("jit", "data"):  # on one device and on four
        options = ("--labels", 3, "--per-label", 4, "--steps", 2, "--parallel", parallel)
        call(sample, file, "--w", 2, *options, "--out", tmp_path / parallel)
        made[parallel] = np.load(tmp_path / parallel / "w=2.npz")["images"].astype(int)
    assert made["jit"].shape == (4, 8, 8, 1)
    assert np.abs(made["data"] - made["jit"]).max() <= 1  # grey levels


def test_the_autoencoder_of_a_run_is_the_one_it_was_given(trained, autoencoder):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    given, kept = jaxflow.load_autoencoder(autoencoder), jaxflow.load_autoencoder(trained)
    assert given == kept
    np.testing.assert_array_equal(given.encode(images), kept.encode(images))


def test_a_published_folder_may_have_a_configuration_of_its_own(tmp_path):
    published_taesd.write(tmp_path / "taesd", latents=5)
    config = tmp_path / "taesd" / "config.json"
    config.write_text('{"_class_name": "AutoencoderTiny"}')
    found = jaxflow.load_autoencoder(tmp_path / "taesd")
    assert (found.network.latent_channels, found.published) == (5, None)
    config.write_text('{"scaling_factor": 0.25, "shift_factor": 0.5}')
    assert jaxflow.load_autoencoder(tmp_path / "taesd").published == ((0.5,) * 5, (4.0,) * 5)
    config.write_text('{"scaling_factor": "much"}')
    with pytest.raises(ValueError, match="scaling_factor = 'much', shift_factor = 0: expected a positive"):
        jaxflow.load_autoencoder(tmp_path / "taesd")


def test_it_resumes_with_its_own_autoencoder(trained, data_dir, autoencoder, tmp_path, capsys):
    out = shutil.copytree(trained, tmp_path / "run")
    call(train, "digits", "--autoencoder", autoencoder, "--out", out, "--data-dir", data_dir, *FLOW)
    assert "trained to step 4" in capsys.readouterr().out
    error = rejected(capsys, train, "digits", "--out", out, "--data-dir", data_dir, *FLOW)
    assert "autoencoder was " in error


def test_an_autoencoder_is_no_flow(autoencoder, trained, unbroken, data_dir, tmp_path, capsys):
    assert "is the run of an autoencoder: train a flow in its latents" in rejected(
        capsys, sample, autoencoder
    )
    again = ("digits", "--out", autoencoder, "--data-dir", data_dir)
    assert "holds a run of another kind" in rejected(capsys, train, *again)
    (tmp_path / "empty").mkdir()
    for place, says in (
        (unbroken, "has no autoencoder: it is a run in pixels"),
        (tmp_path / "empty", "has no weights: expected one of model.safetensors"),
        (tmp_path / "none", "no such folder; name that of an autoencoder"),
    ):
        new = ("digits", "--autoencoder", place, "--out", tmp_path / "new", "--data-dir", data_dir)
        assert says in rejected(capsys, train, *new)
    new = (
        "autoencoder",
        "--perceptual",
        tmp_path / "none",
        "--out",
        tmp_path / "new",
        "--data-dir",
        data_dir,
    )
    assert "no such folder; name that of VGG16" in rejected(capsys, train, *new)
    run = open_run(trained)
    other = jax.tree.map(lambda leaf: leaf + 1, run.space.autoencoder.params)
    autoencoders.store(
        shutil.copytree(trained, tmp_path / "swapped"), replace(run.space.autoencoder, params=other)
    )
    assert "is of another autoencoder than the run was trained with" in rejected(
        capsys, sample, tmp_path / "swapped"
    )
    (shutil.copytree(trained, tmp_path / "run") / "autoencoder.safetensors").unlink()
    assert "autoencoder.safetensors does not exist: copy it there" in rejected(
        capsys, sample, tmp_path / "run"
    )
