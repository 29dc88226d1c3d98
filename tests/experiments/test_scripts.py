"""Miniature runs of the scripts as a user runs them; those that are killed, in processes of their own."""

import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forked import Forked
from PIL import Image
from small_digits import ON_ONE_CORE, training

from experiments import evaluate, sample, sweep, train
from experiments.report import quality
from jaxflow.runs.folder import open_run
from jaxflow.runs.objective import optimizer_of
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock
from jaxflow.training.step import initial_state

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]


def started(script, *arguments):
    return Forked(script, *arguments, before=ON_ONE_CORE)


def call(script, *arguments):
    """In this process."""
    script.main([str(argument) for argument in arguments])


@pytest.fixture
def trained(unbroken, tmp_path):
    """A copy of it."""
    return shutil.copytree(unbroken, tmp_path / "trained")


def newest_state(folder):
    """Parameters, moving average, optimiser state and step of the newest checkpoint."""
    experiment_run = open_run(folder)
    params = experiment_run.initial_params(jax.random.key(0))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.restore(initial_state(params, optimizer_of(experiment_run.experiment)))


def test_train_leaves_a_complete_run_folder(unbroken):
    lines = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(np.isfinite(line["loss"]) and 0 <= line["waiting_for_data"] <= 1 for line in lines)
    assert json.loads((unbroken / "config.json").read_text())["experiment"]["steps"] == 12


@pytest.mark.requirement("R42")
def test_sample_needs_nothing_but_the_folder(trained):
    call(sample, trained, "--w", 0, 2.5, "--labels", 3, 7, "--per-label", 2, "--steps", 2)
    for w in ("0", "2.5"):
        arrays = np.load(trained / "samples" / f"w={w}.npz")
        assert arrays["images"].shape == (4, 8, 8, 1)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [3, 3, 7, 7]
    with Image.open(trained / "samples" / "grid.png") as picture:
        assert min(picture.size) > 100
        assert np.asarray(picture).std() > 5


def test_the_example_of_the_readme(trained):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(program.replace("runs/digits", str(trained)).replace("steps=20", "steps=2"), names)
    assert (names["images"].shape, names["images"].dtype) == ((3, 8, 8, 1), np.uint8)
    noise = jnp.zeros((2, 8, 8, 1))
    assert names["field"](noise, jnp.zeros(2)).shape == noise.shape


@pytest.mark.requirement("R42")
def test_evaluate_prints_a_table_and_draws_curves(trained, capsys):
    call(
        *(evaluate, trained, "--w", 1, 2, "--per-label", 2, "--steps", 2, "--judge-steps", 3),
        *("--solver", "dpm_solver_2m", "--parallel", "jit"),
    )
    result, table = json.loads((trained / "evaluation.json").read_text()), capsys.readouterr().out
    assert result["table"]["w"] == [1, 2]
    assert "for each w 1 to 3 images of each of 10 classes, 20 in all" in table
    for column in sorted(set(sum(evaluate.TABLES, ())) - {"caption", "clip score"}):
        assert column in table
        assert len(result["table"][column]) == 2
        assert np.isfinite([*result["table"][column], result["real"][column]]).all()
    with Image.open(trained / "evaluation.png") as picture:
        assert picture.width > 100


def test_sweep_compares_the_rules(trained, capsys, monkeypatch):
    make, made = quality.Measure, []
    monkeypatch.setattr(quality, "Measure", lambda *a, **b: made.append(make(*a, **b)) or made[0])
    call(
        *(sweep, trained, "--w", 1, 2, "--sigma", 0, 0.5, "--rules", "classifier", "autoguidance"),
        *("--block", 20, "--worse", trained, "--per-label", 2, "--steps", 2),
        *("--judge-steps", 3, "--classifier-steps", 3),
    )
    result, table = json.loads((trained / "sweep.json").read_text()), capsys.readouterr().out
    settings = [(row["rule"], row["w"], row["sigma"]) for row in result["settings"]]
    assert len(settings) == len(set(settings)) == 2 * 2 * 2
    for rule, best in result["best"].items():
        assert rule in table
        assert best["frechet"] == min(r["frechet"] for r in result["settings"] if r["rule"] == rule)
    for row in result["settings"]:
        assert np.isfinite([value for name, value in row.items() if name not in ("rule", "intervals")]).all()
        assert set(row["intervals"]) < set(row)
    with Image.open(trained / "sweep.png") as picture:
        assert picture.width > 100
    assert '"w = 2, sigma = 0.5"' in (trained / "sweep.html").read_text()
    # The printed command makes the images of the best setting, with the metrics of the sweep.
    best = min(result["best"].values(), key=lambda row: row["frechet"])
    assert table.splitlines()[-1].endswith(result["command"])
    _, _, script, *arguments = shlex.split(result["command"])
    assert script == "experiments.sample"
    call(sample, *arguments, "--out", trained / "best")
    images = np.load(trained / "best" / f"w={best['w']:g}.npz")
    counts = np.bincount(made[0].labels)
    rows = images["images"].reshape(10, counts.max(), 8, 8, 1)
    compared = np.concatenate([row[:count] for row, count in zip(rows, counts, strict=True)])
    assert made[0](compared).figures["frechet pixels"] == pytest.approx(best["frechet pixels"], rel=1e-3)


def test_same_command_again_has_nothing_to_do(trained, data_dir, capsys):
    before = (trained / "metrics.jsonl").read_text()
    call(train, *training(trained, data_dir))
    assert "trained to step 12" in capsys.readouterr().out
    assert (trained / "metrics.jsonl").read_text() == before


def rejected(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        call(train, *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_second_run_in_a_folder_is_rejected(trained, data_dir, capsys):
    with Lock(trained):
        error = rejected(capsys, *training(trained, data_dir))
    assert f"{trained} is in use by process {os.getpid()}" in error


def test_one_changed_bit_of_the_configuration_is_noticed(trained):
    text = (trained / "config.json").read_text()
    (trained / "config.json").write_text(text.replace('"depth": 1', '"depth": 3'))
    assert (trained / "config.json").read_text() != text
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        open_run(trained)


def test_a_folder_without_its_checkpoints_is_not_started_over(trained, data_dir, capsys):
    before = (trained / "metrics.jsonl").read_text()
    shutil.rmtree(trained / "checkpoints")
    assert "to start over, choose another folder" in rejected(capsys, *training(trained, data_dir))
    assert (trained / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_an_interrupted_run_resumes_bit_identically(unbroken, data_dir, tmp_path, number):
    out = tmp_path / "broken"
    process = started("train", *training(out, data_dir))
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "4").exists():  # it is renamed once it is complete
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert f"stopped by {number.name} and saved" in stdout
    assert not (out / "checkpoints" / "12").exists()  # it was interrupted halfway
    resumed = started("train", *training(out, data_dir))
    assert resumed.communicate(timeout=300)[0].endswith("trained to step 12\n")
    chex.assert_trees_all_equal(newest_state(out), newest_state(unbroken))
