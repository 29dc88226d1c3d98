"""Two processes of two devices each against this one of four, through the scripts."""

import shutil
import signal
import time

import jax
import numpy as np
import pytest
from forked import Forked
from small_digits import NETWORK

from experiments import sample, train
from experiments.benchmarks.mappings import environments
from jaxflow.devices import mesh
from jaxflow.runs.folder import newest_params, open_run
from jaxflow.training import log

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

TRAIN = ("digits", "--batch-size", 16, "--checkpoint-every", 4, "--log-every", 1, *NETWORK)
STEPS = 4
"""After which a run is stopped, of 100."""
SMALL = 256
"""Elements from which an array is sharded here, where all are small."""
DEAD_AFTER = 5
"""Seconds of silence."""


def launch(processes, devices, script, *arguments, of_one=(), before=""):
    """A script in several processes; the last has more arguments."""
    return [
        Forked(script, *arguments, *own, devices=devices, environment=environment, before=before)
        for environment, own in zip(environments(processes), [()] * (processes - 1) + [of_one], strict=True)
    ]


def finish(started, codes):
    """What they printed, once all have exited with these codes."""
    outputs = [process.communicate(timeout=600) for process in started]
    for process, code, (_, errors) in zip(started, codes, outputs, strict=True):
        assert process.returncode == code, errors
    return [out for out, _ in outputs]


def losses(folder):
    return [line["loss"] for line in log.read(folder)]


def call(script, *arguments):
    """A script in this process."""
    script.main([str(argument) for argument in arguments])


def train_in_two(out, data_dir, steps, *options, before=""):
    """A run in two processes, once it has done this many steps."""
    arguments = (*TRAIN, "--out", out, "--data-dir", data_dir, "--steps", 100, *options)
    started = launch(2, 2, "train", *arguments, before=before)
    while len(log.read(out)) < steps:
        for process in started:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return started


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """A run of this process with its four devices."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    options = ("--steps", 100, "--checkpoint-every", 100, "--sample-every", 0)
    with jax.numpy_dtype_promotion("standard"):
        call(train, *TRAIN, "--out", out, "--data-dir", data_dir, *options)
    return out


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, data_dir):
    """A run in two processes after a signal to the second, and what they printed."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    started = train_in_two(out, data_dir, STEPS, "--parallel", "pmap", "--sample-every", STEPS)
    started[1].send_signal(signal.SIGTERM)
    return out, finish(started, (143, 143))


def assert_same_losses(folder, other, steps):
    """Up to rounding in the first step, which the next steps amplify a little."""
    found, expected = losses(folder)[:steps], losses(other)[:steps]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.requirement("R60")
def test_a_signal_to_one_stops_both_after_the_same_step(alone, stopped):
    out, (first, second) = stopped
    assert "stopped by SIGTERM" in first
    assert second == ""  # only the first prints
    assert_same_losses(out, alone, STEPS)
    assert newest_params(out, open_run(out))[0] == len(losses(out)) >= STEPS
    assert (out / "samples" / "step=4.png").exists()


@pytest.mark.requirement("R60")
def test_the_run_resumes_and_when_one_dies_the_other_does_not_hang(
    alone, stopped, data_dir, tmp_path, monkeypatch
):
    out = shutil.copytree(stopped[0], tmp_path / "run")
    begun = len(losses(out))
    changed = f"mesh.SMALL = {SMALL}; processes.HEARTBEAT = {DEAD_AFTER}"
    before = f"from jaxflow.devices import mesh, processes; {changed}"
    options = ("--parallel", "fsdp", "--sample-every", 0)
    started = train_in_two(out, data_dir, begun + STEPS + 1, *options, before=before)
    started[1].kill()
    started[0].communicate(timeout=DEAD_AFTER + 30)
    assert started[0].returncode not in (0, None)
    assert_same_losses(out, alone, begun + STEPS)
    step, _ = newest_params(out, open_run(out))
    assert step >= len(losses(out)) - 4 > begun
    # One more step to the end, in two processes and in this one with another sharding.
    other = shutil.copytree(out, tmp_path / "other")
    options = ("--data-dir", data_dir, "--steps", step + 1, *options)
    finish(launch(2, 2, "train", *TRAIN, "--out", out, *options, before=before), (0, 0))
    monkeypatch.setattr(mesh, "SMALL", SMALL)
    call(train, *TRAIN, "--out", other, *options, "--tensor", 2)
    for folder in (out, other):
        assert newest_params(folder, open_run(folder))[0] == len(losses(folder)) == step + 1
    np.testing.assert_allclose(losses(other), losses(out), rtol=1e-6)
    np.testing.assert_allclose(losses(out), losses(alone)[: step + 1], rtol=1e-5)


@pytest.mark.requirement("R60")
def test_a_signal_before_there_is_anything_to_save_ends_a_process_at_once(data_dir, tmp_path):
    started = launch(2, 2, "train", *TRAIN, "--out", tmp_path / "run", "--data-dir", data_dir)
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
    started = launch(2, 1, "train", *TRAIN, "--out", out, "--steps", 4, of_one=options)
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], errors
    assert all(says in error for error in errors)
    assert not out.exists()


def test_two_processes_sample_as_one(alone, tmp_path):
    arguments = (alone, "--w", 2, "--per-label", 1, "--steps", 2, "--out")
    finish(launch(2, 2, "sample", *arguments, tmp_path / "two"), [0, 0])
    call(sample, *arguments, tmp_path / "one", "--parallel", "jit")
    two, one = (np.load(tmp_path / name / "w=2.npz")["images"].astype(int) for name in ("two", "one"))
    assert np.abs(two - one).max() <= 1  # grey levels, of which 1 is 0.008
