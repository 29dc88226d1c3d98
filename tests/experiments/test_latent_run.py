"""A flow in latents through the scripts: trained, resumed, sampled, exported, evaluated."""

import json
import shutil

import jax
import numpy as np
import published_taesd
import pytest
from small_digits import NETWORK

import jaxflow
from experiments import export, sample, train
from jaxflow.runs.folder import open_run
from jaxflow.spaces import Latents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

SMALL = (
    *("--steps", 4, "--batch-size", 16, "--checkpoint-every", 4, "--log-every", 1, "--sample-every", 4),
    *("--network.patch", 1, "--parallel", "jit", *NETWORK),
)


def call(script, *arguments):
    script.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of an autoencoder of grey images, of random weights."""
    folder = tmp_path_factory.mktemp("autoencoder") / "weights"
    published_taesd.write(folder, channels=1)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir, published):
    out = tmp_path_factory.mktemp("runs") / "latents"
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))
        call(train, "digits", "--autoencoder", published, "--out", out, "--data-dir", data_dir, *SMALL)
    return out


@pytest.mark.requirement("R56", "R62")
def test_a_flow_is_trained_in_latents(trained):
    run = open_run(trained)
    assert isinstance(run.space, Latents)
    assert run.space.event_shape == (1, 1, 4)
    assert run.space.image_shape == (8, 8, 1)
    losses = [json.loads(line)["loss"] for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 4
    assert 1 < losses[0] < 3  # of data and noise of variance 1, without motion: 2
    assert (trained / "samples" / "step=4.png").exists()


def test_sampling_needs_nothing_but_the_folder_or_the_file(trained, tmp_path, published):
    model = jaxflow.load(shutil.copytree(trained, tmp_path / "elsewhere"))
    images = model.sample(0, [3, 7], w=2.0, steps=2)
    assert (images.shape, images.dtype) == ((2, 8, 8, 1), np.uint8)
    file = tmp_path / "model.safetensors"
    call(export, trained, "--out", file)
    assert str(published).encode() not in file.read_bytes()
    np.testing.assert_array_equal(jaxflow.load(file).sample(0, [3, 7], w=2.0, steps=2), images)
    call(sample, file, "--w", 2, "--labels", 3, "--per-label", 1, "--steps", 2, "--parallel", "jit")
    assert np.load(tmp_path / "model-results" / "samples" / "w=2.npz")["images"].shape == (1, 8, 8, 1)


def test_the_autoencoder_of_a_run_is_the_one_it_was_given(trained, published):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    given, kept = jaxflow.load_autoencoder(published), jaxflow.load_autoencoder(trained)
    assert given == kept
    np.testing.assert_array_equal(given.encode(images), kept.encode(images))


def test_it_resumes_with_its_own_autoencoder(trained, data_dir, published, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.parent / "cache"))
    out = shutil.copytree(trained, tmp_path / "run")
    given = ("digits", "--autoencoder", published, "--out", out, "--data-dir", data_dir, *SMALL)
    call(train, *given)
    assert "trained to step 4" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call(train, "digits", "--out", out, "--data-dir", data_dir, *SMALL)
    assert "autoencoder was " in capsys.readouterr().err
