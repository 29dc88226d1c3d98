"""Two processes of two devices each against one of four, through the scripts."""

import shutil
import signal
import time

import numpy as np
import pytest

from experiments.benchmarks.mappings import launch
from jaxflow.runs.folder import newest_params, open_run
from jaxflow.training import log

pytestmark = pytest.mark.slow

NETWORK = ("--network.width", 32, "--network.depth", 2, "--network.heads", 2)
TRAIN = ("train", "digits", "--batch-size", 16, "--checkpoint-every", 4, "--log-every", 1, *NETWORK)
STEPS = 6
"""After which a run is stopped, of 2,000."""
DEAD_AFTER = 5
"""Seconds of silence."""


def finish(started, codes):
    """What they printed, once all have exited with these codes."""
    outputs = [process.communicate(timeout=600) for process in started]
    for process, code, (_, errors) in zip(started, codes, outputs, strict=True):
        assert process.returncode == code, errors
    return ["\n".join(line for line in out.splitlines() if "[Gloo]" not in line) for out, _ in outputs]


def losses(folder):
    return [line["loss"] for line in log.read(folder)]


def train(out, data_dir, processes, devices, *options, **launching):
    """A run in several processes, once it has done `STEPS`."""
    arguments = (*TRAIN, "--out", out, "--data-dir", data_dir, "--steps", 2000, *options)
    started = launch(processes, devices, *arguments, **launching)
    while len(log.read(out)) < STEPS:
        for process in started:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return started


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """A run of one process with four devices."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    started = train(out, data_dir, 1, 4, "--sample-every", 0)
    started[0].send_signal(signal.SIGTERM)
    finish(started, [143])
    return out


def assert_same_losses(folder, other):
    """Up to rounding in the first step, which the next steps amplify a little."""
    found, expected = losses(folder)[:STEPS], losses(other)[:STEPS]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.requirement("R60")
def test_a_signal_to_one_stops_both_after_the_same_step_and_the_run_resumes(alone, data_dir, tmp_path):
    out = tmp_path / "run"
    options = ("--parallel", "fsdp", "--sample-every", 4)
    started = train(out, data_dir, 2, 2, *options)
    started[1].send_signal(signal.SIGTERM)
    first, second = finish(started, (143, 143))
    assert "stopped by SIGTERM" in first
    assert second == ""  # only the first prints
    assert_same_losses(out, alone)
    step, _ = newest_params(out, open_run(out))
    assert step == len(losses(out)) >= STEPS
    assert (out / "samples" / "step=4.png").exists()
    # One more step, with the same processes and devices and with others.
    shutil.copytree(out, tmp_path / "other")
    options = ("--data-dir", data_dir, "--parallel", "fsdp", "--steps", step + 1, "--sample-every", 0)
    finish(launch(2, 2, *TRAIN, "--out", out, *options), (0, 0))
    finish(launch(1, 2, *TRAIN, "--out", tmp_path / "other", *options), [0])
    assert newest_params(out, open_run(out))[0] == len(losses(out)) == step + 1
    np.testing.assert_allclose(losses(tmp_path / "other"), losses(out), rtol=1e-6)


@pytest.mark.requirement("R60")
def test_a_signal_before_there_is_anything_to_save_ends_a_process_at_once(data_dir, tmp_path):
    started = launch(2, 2, *TRAIN, "--out", tmp_path / "run", "--data-dir", data_dir)
    while not (tmp_path / "run" / "config.json").exists():  # they read, compile and wait for each other
        for process in started:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    _, errors = started[1].communicate(timeout=60)
    started[0].kill()  # it would notice within the heartbeat, see below
    started[0].communicate()
    assert started[1].returncode == 143
    assert "stopped by SIGTERM" in errors


@pytest.mark.requirement("R60")
def test_when_one_dies_the_other_does_not_hang(alone, data_dir, tmp_path):
    out = tmp_path / "run"
    heartbeat = f"from jaxflow.devices import processes; processes.HEARTBEAT = {DEAD_AFTER}"
    started = train(out, data_dir, 2, 2, "--parallel", "pmap", "--sample-every", 0, before=heartbeat)
    started[1].kill()
    started[0].communicate(timeout=DEAD_AFTER + 30)
    assert started[0].returncode not in (0, None)
    assert_same_losses(out, alone)
    assert newest_params(out, open_run(out))[0] >= 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--learning-rate", 1e-4), "--learning-rate is missing in process 0 and 0.0001 in process 1"),
        (("--data-dir", __file__), f"data_dir = {__file__}"),
    ],
)
def test_processes_that_differ_end_before_the_first_step(data_dir, tmp_path, monkeypatch, options, says):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    out = tmp_path / "run"
    started = launch(2, 1, *TRAIN, "--out", out, "--steps", 4, of_one=options)
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], errors
    assert all(says in error for error in errors)
    assert not out.exists()


def test_two_processes_sample_as_one(alone, tmp_path):
    arguments = ("sample", alone, "--w", 2, "--per-label", 1, "--steps", 2, "--out")
    finish(launch(2, 2, *arguments, tmp_path / "two"), [0, 0])
    finish(launch(1, 1, *arguments, tmp_path / "one"), [0])
    two, one = (np.load(tmp_path / name / "w=2.npz")["images"].astype(int) for name in ("two", "one"))
    assert np.abs(two - one).max() <= 1  # grey levels, of which 1 is 0.008
