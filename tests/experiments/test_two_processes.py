"""Two processes of two devices each beside one of four, through the scripts."""

import shutil
import signal
import time

import numpy as np
import pytest

from experiments.benchmarks.mappings import launch
from jaxflow.runs.folder import newest_params, open_run
from jaxflow.training import log

pytestmark = pytest.mark.slow

TRAIN = ("train", "digits", "--batch-size", 16, "--checkpoint-every", 4, "--log-every", 1)
STEPS = 6
"""After which a run is stopped; it would have 2,000."""


def finish(started, codes):
    """What they printed, when all have ended as they should."""
    outputs = [process.communicate(timeout=600) for process in started]
    for process, code, (_, errors) in zip(started, codes, outputs, strict=True):
        assert process.returncode == code, errors
    return ["\n".join(line for line in out.splitlines() if "[Gloo]" not in line) for out, _ in outputs]


def losses(folder):
    return [line["loss"] for line in log.read(folder)]


def train(out, data_dir, processes, devices, *options):
    """A run of so many processes and devices, when it has done `STEPS`."""
    arguments = (*TRAIN, "--out", out, "--data-dir", data_dir, "--steps", 2000, *options)
    started = launch(processes, devices, *arguments)
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
    """Of the first step to rounding, and of the next, which amplify it a little."""
    found, expected = losses(folder)[:STEPS], losses(other)[:STEPS]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.requirement("R60")
def test_a_signal_to_one_ends_both_after_the_same_step_and_one_continues(alone, data_dir, tmp_path):
    out = tmp_path / "run"
    options = ("--parallel", "fsdp", "--sample-every", 4)
    started = train(out, data_dir, 2, 2, *options)
    started[1].send_signal(signal.SIGTERM)
    first, second = finish(started, (143, 143))
    assert "stopped by SIGTERM" in first
    assert second == ""  # the first alone speaks
    assert_same_losses(out, alone)
    step, _ = newest_params(out, open_run(out))
    assert step == len(losses(out)) >= STEPS
    assert (out / "samples" / "step=4.png").exists()
    # The next step in as many processes and devices, and in others.
    shutil.copytree(out, tmp_path / "other")
    options = ("--data-dir", data_dir, "--parallel", "fsdp", "--steps", step + 1, "--sample-every", 0)
    finish(launch(2, 2, *TRAIN, "--out", out, *options), (0, 0))
    finish(launch(1, 2, *TRAIN, "--out", tmp_path / "other", *options), [0])
    assert newest_params(out, open_run(out))[0] == len(losses(out)) == step + 1
    np.testing.assert_allclose(losses(tmp_path / "other"), losses(out), rtol=1e-6)


@pytest.mark.requirement("R60")
def test_a_signal_to_one_that_has_nothing_to_save_ends_it_at_once(data_dir, tmp_path):
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
    started = train(out, data_dir, 2, 2, "--parallel", "pmap", "--sample-every", 0)
    started[1].kill()
    started[0].communicate(timeout=70)
    assert started[0].returncode not in (0, None)
    assert_same_losses(out, alone)
    assert newest_params(out, open_run(out))[0] >= 2


def test_two_processes_sample_as_one(alone, tmp_path):
    arguments = ("sample", alone, "--w", 2, "--per-label", 1, "--steps", 2, "--out")
    finish(launch(2, 2, *arguments, tmp_path / "two"), [0, 0])
    finish(launch(1, 1, *arguments, tmp_path / "one"), [0])
    two, one = (np.load(tmp_path / name / "w=2.npz")["images"].astype(int) for name in ("two", "one"))
    assert np.abs(two - one).max() <= 1  # grey levels, of which 1 is 0.008
