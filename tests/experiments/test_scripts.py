"""Miniature runs of the scripts as a user runs them, each in a process of its own."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from experiments.report import quality
from jaxflow.devices import layouts
from jaxflow.runs.folder import open_run
from jaxflow.runs.objective import optimizer_of
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock
from jaxflow.training.step import initial_state

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

SMALL = ["--batch-size", "16", "--checkpoint-every", "8", "--log-every", "4", "--sample-every", "0"]


def command(script, *arguments):
    # On one core: XLA's CPU backend does not promise the same bits with several threads.
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    return [*pin, sys.executable, "-m", f"experiments.{script}", *map(str, arguments)]


def run(script, *arguments, code=0):
    done = subprocess.run(command(script, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A run of twelve steps, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    run("train", "digits", "--out", out, "--data-dir", data_dir, "--steps", 12, *SMALL)
    return out


def newest_state(folder):
    """Parameters, moving average, optimiser state and step of the newest checkpoint."""
    experiment_run = open_run(folder)
    params = experiment_run.initial_params(jax.random.key(0))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.restore(initial_state(params, optimizer_of(experiment_run.experiment)))


def test_train_leaves_a_complete_run_folder(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(np.isfinite(line["loss"]) and 0 <= line["waiting_for_data"] <= 1 for line in lines)
    assert json.loads((trained / "config.json").read_text())["experiment"]["steps"] == 12


@pytest.mark.requirement("R42")
def test_sample_needs_nothing_but_the_folder(trained, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    run("sample", moved, "--w", 0, 2.5, "--labels", 3, 7, "--per-label", 2, "--steps", 2)
    for w in ("0", "2.5"):
        arrays = np.load(moved / "samples" / f"w={w}.npz")
        assert arrays["images"].shape == (4, 8, 8, 1)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [3, 3, 7, 7]
    with Image.open(moved / "samples" / "grid.png") as picture:
        assert min(picture.size) > 100
        assert np.asarray(picture).std() > 5


@pytest.mark.requirement("R42")
def test_evaluate_prints_a_table_and_draws_curves(trained):
    done = run(
        *("evaluate", trained, "--w", 1, 2, "--per-label", 2, "--steps", 2, "--judge-steps", 3),
        *("--solver", "dpm_solver_2m"),
    )
    result = json.loads((trained / "evaluation.json").read_text())
    assert result["table"]["w"] == [1, 2]
    for column in ("accuracy", "frechet", "frechet pixels", "precision", "recall", "nearest"):
        assert column in done.stdout
        assert len(result["table"][column]) == 2
        assert np.isfinite([*result["table"][column], result["real"][column]]).all()
    with Image.open(trained / "evaluation.png") as picture:
        assert picture.width > 100


def test_sweep_compares_the_rules(trained, standard_promotion):
    done = run(
        *("sweep", trained, "--w", 1, 2, "--sigma", 0, 0.5, "--rules", "classifier_free", "classifier"),
        *("autoguidance", "projected", "--together", 20, "--worse", trained, "--per-label", 2, "--steps", 2),
        *("--judge-steps", 3, "--classifier-steps", 3),
    )
    result = json.loads((trained / "sweep.json").read_text())
    settings = [(row["rule"], row["w"], row["sigma"]) for row in result["settings"]]
    assert len(settings) == len(set(settings)) == 4 * 2 * 2
    for rule, best in result["best"].items():
        assert rule in done.stdout
        assert best["frechet"] == min(r["frechet"] for r in result["settings"] if r["rule"] == rule)
    for row in result["settings"]:
        assert np.isfinite([value for name, value in row.items() if name != "rule"]).all()
    # At w = 1 all rules but the one with a classifier are the conditional model.
    at_one = [row for row in result["settings"] if (row["w"], row["sigma"]) == (1, 0)]
    same = [row["frechet pixels"] for row in at_one if row["rule"] != "classifier"]
    assert same == pytest.approx([same[0]] * 3, rel=1e-2)
    with Image.open(trained / "sweep.png") as picture:
        assert picture.width > 100
    # The printed command makes the images of the best setting, whose figures are those of the sweep.
    best = min(result["best"].values(), key=lambda row: row["frechet"])
    assert done.stdout.splitlines()[-1] == f"the best of all: {result['command']}"
    _, _, script, *arguments = shlex.split(result["command"])
    run(script.removeprefix("experiments."), *arguments, "--out", trained / "best")
    images = np.load(trained / "best" / f"w={best['w']:g}.npz")
    labels = quality.labels_of(open_run(trained).model(None), 2)
    assert sorted(images["labels"]) == sorted(labels)
    order = np.argsort(labels, kind="stable")
    real = quality.read(open_run(trained).open_split, len(labels))
    measure = quality.Measure(real, labels[order], seed=1, steps=3, sharding=layouts.on_one_device())
    assert measure(images["images"])["frechet pixels"] == pytest.approx(best["frechet pixels"], rel=1e-3)


def test_same_command_again_has_nothing_to_do(trained, data_dir):
    before = (trained / "metrics.jsonl").read_text()
    done = run("train", "digits", "--out", trained, "--data-dir", data_dir, "--steps", 12, *SMALL)
    assert "step 12" in done.stdout
    assert (trained / "metrics.jsonl").read_text() == before


def test_second_run_in_a_folder_is_refused(trained, data_dir):
    with Lock(trained):
        done = run("train", "digits", "--out", trained, "--data-dir", data_dir, "--steps", 12, *SMALL, code=2)
    assert f"{trained} is in use by process {os.getpid()}" in done.stderr


def test_one_bit_of_the_configuration_is_noticed(trained, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    text = (moved / "config.json").read_text()
    (moved / "config.json").write_text(text.replace('"depth": 6', '"depth": 4'))
    assert (moved / "config.json").read_text() != text
    with pytest.raises(ValueError, match=r"config.json is damaged.*not as it was written"):
        open_run(moved)


def test_folder_whose_checkpoints_are_gone_is_not_started_over(trained, data_dir, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(trained, gone, ignore=shutil.ignore_patterns("checkpoints"))
    done = run("train", "digits", "--out", gone, "--data-dir", data_dir, "--steps", 12, *SMALL, code=2)
    assert "no checkpoint is whole; to start anew, choose another folder" in done.stderr
    assert (gone / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_run_continues_to_the_same_bits(trained, data_dir, tmp_path, number):
    out = tmp_path / "broken"
    arguments = ("digits", "--out", out, "--data-dir", data_dir, "--steps", 12, *SMALL)
    process = subprocess.Popen(
        command("train", *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "4").exists():  # it gets its name when it is whole
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, number)
    stdout, _ = process.communicate(timeout=300)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM)
    if number == signal.SIGTERM:
        assert "stopped by SIGTERM" in stdout
    assert not (out / "checkpoints" / "12").exists()  # it was stopped in the middle
    run("train", *arguments)
    chex.assert_trees_all_equal(newest_state(out), newest_state(trained))
