"""Runs in this process: what is compiled, drawn and left by a signal."""

import os
import re
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_digits
from conftest import assert_close

from experiments import train
from jaxflow.runs.folder import newest_params, open_run
from jaxflow.training import flops, log, loop
from jaxflow.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = ("--batch-size", "16", "--checkpoint-every", "4", "--log-every", "1", "--parallel", "jit")


@pytest.fixture
def simple_loss(monkeypatch):
    """A loss without a network, which compiles fast: the sum of squares of the parameters."""
    small_digits.use(monkeypatch)

    def squares(params, key, batch):
        total = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return jnp.broadcast_to(total, batch["number"].shape)

    monkeypatch.setattr(train, "objective", lambda run, teacher: squares)


def digits(out, data_dir, *options):
    train.main(["digits", "--out", str(out), "--data-dir", str(data_dir), *SMALL, *map(str, options)])


def test_a_run_that_resumes_in_its_process_compiles_its_step_once(data_dir, tmp_path, monkeypatch, capsys):
    small_digits.use(monkeypatch)
    record = log.Log.record

    def record_and_stop(self, n, metrics):
        record(self, n, metrics)
        if n == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    options = ("--steps", 8, "--sample-every", 4)
    loop.compiled.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "record", record_and_stop)
        with pytest.raises(SystemExit) as stop:
            digits(tmp_path / "run", data_dir, *options)
    assert stop.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().out
    stopped, _ = newest_params(tmp_path / "run", open_run(tmp_path / "run"))
    assert 3 < stopped < 8
    digits(tmp_path / "run", data_dir, *options)
    assert loop.compiled.cache_info()[:2] == (1, 1)  # found once, compiled once
    assert [line["step"] for line in log.read(tmp_path / "run")] == list(range(1, 9))
    samples = sorted(file.name for file in (tmp_path / "run" / "samples").iterdir())
    assert samples[-1] == "step=8.png"


@pytest.mark.usefixtures("simple_loss")
def test_no_step_runs_further_ahead_of_the_checkpoints_than_a_kill_may_lose(data_dir, tmp_path, monkeypatch):
    commit, compiled = Checkpoints._commit, loop.compiled
    lost = []  # by a kill at the end of each step

    def slow_commit(*arguments):
        time.sleep(0.3)
        commit(*arguments)

    def watched_step(*arguments):
        program = compiled(*arguments)

        def step(state, key, batch):
            complete = [0, *Checkpoints(tmp_path / "run" / "checkpoints").steps]
            lost.append(int(state.step) + 1 - complete[-1])
            return program(state, key, batch)

        return step

    monkeypatch.setattr(Checkpoints, "_commit", slow_commit)
    monkeypatch.setattr(loop, "compiled", watched_step)
    digits(tmp_path / "run", data_dir, "--steps", 8, "--sample-every", 0)
    assert len(lost) == 8
    assert max(lost) <= 4


@pytest.mark.usefixtures("simple_loss")
def test_a_grid_that_an_interruption_prevented_is_drawn_on_resuming(data_dir, tmp_path, monkeypatch):
    drawn, kept = [], [True]

    def draw(self, n, params):
        drawn.append(n)
        if kept.pop():
            (tmp_path / "run" / "samples").mkdir()
            (tmp_path / "run" / "samples" / f"step={n}.png").touch()
        return np.zeros((2, 2), np.uint8)

    monkeypatch.setattr(train.Previews, "draw", draw)
    digits(tmp_path / "run", data_dir, "--steps", 2, "--sample-every", 2)
    kept[:] = [False]
    digits(tmp_path / "run", data_dir, "--steps", 4, "--sample-every", 2)
    kept[:] = [False, False]
    digits(tmp_path / "run", data_dir, "--steps", 8, "--sample-every", 4)
    assert drawn == [2, 4, 4, 8]


def test_utilisation_is_logged_if_the_peak_is_known(data_dir, tmp_path, monkeypatch):
    small_digits.use(monkeypatch)
    monkeypatch.setitem(flops.PEAKS, jax.devices()[0].device_kind, 1e12)
    begin, begun = train.begin, []
    monkeypatch.setattr(train, "begin", lambda *a: begun.append(begin(*a)) or begun[0])
    digits(tmp_path / "run", data_dir, "--steps", 2, "--sample-every", 0, "--network.width", 64)
    run = open_run(tmp_path / "run")
    of_seconds = begun[0].utilisation()
    line = log.read(tmp_path / "run")[-1]
    assert 0 < line["utilisation"] < 1
    assert_close(of_seconds(2.0) * 2, of_seconds(1.0), 1e-12)
    # A transformer takes about 6 FLOPs per parameter and token; 16 tokens, 16 images.
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.shapes))
    assert 0.5 < of_seconds(1.0) * 1e12 / (6 * parameters * 16 * 16) < 1


@pytest.mark.usefixtures("simple_loss")
def test_a_non_finite_loss_ends_the_run_and_leaves_the_checkpoint_intact(data_dir, tmp_path, monkeypatch):
    out = tmp_path / "run"
    digits(out, data_dir, "--steps", 2, "--sample-every", 0)
    before = newest_params(out, open_run(out))
    loss = train.objective
    monkeypatch.setattr(
        train, "objective", lambda run, teacher: lambda *a: loss(run, teacher)(*a) * float("nan")
    )
    with pytest.raises(FloatingPointError, match="no finite loss or gradient in 20 steps"):
        digits(out, data_dir, "--steps", 40, "--sample-every", 0, "--checkpoint-every", 20)
    step, params = newest_params(out, open_run(out))
    assert step > before[0]
    assert_close(params, before[1], 0.0)


@pytest.mark.usefixtures("simple_loss")
def test_a_run_says_what_it_trains_and_when_its_schedule_changes(data_dir, tmp_path, capsys):
    digits(tmp_path / "run", data_dir, "--steps", 2, "--sample-every", 0)
    first = capsys.readouterr().out
    assert re.search(r"data: 1,4\d\d images to train on, 3\d\d held out", first)
    assert "parameters; 1 CPU device, jit" in first
    assert "learning rate" not in first
    assert "since the run began" not in first
    # Another fingerprint, as if the files had been exchanged.
    (tmp_path / "run" / "data.json").write_text('{"images": 7, "fingerprint": "00"}')
    digits(tmp_path / "run", data_dir, "--steps", 4, "--sample-every", 0)
    second = capsys.readouterr().out
    assert (
        "learning rate: the schedule now ends at step 4 instead of 2; at step 2 the rate is 0.001" in second
    )
    assert "instead of 0\n" in second
    assert "data: changed since the run began (7 images then, 1,4" in second
