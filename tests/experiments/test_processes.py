"""Two processes of two devices each beside one of four, through the scripts."""

import signal
import time

import numpy as np
import pytest

from experiments.benchmarks.mappings import launch
from experiments.runs import newest_params, open_run
from jaxflow.training import log

pytestmark = pytest.mark.slow

TRAIN = ("train", "digits", "--batch-size", 16, "--checkpoint-every", 2, "--log-every", 1)
SILENT = ("--sample-every", 0)


def finish(started, codes=(0, 0)):
    """What they printed, when all have ended as they should."""
    outputs = [process.communicate(timeout=600) for process in started]
    for process, code, (_, errors) in zip(started, codes, outputs, strict=False):
        assert process.returncode == code, errors
    return ["\n".join(line for line in out.splitlines() if "[Gloo]" not in line) for out, _ in outputs]


def losses(folder):
    return [line["loss"] for line in log.read(folder)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """A run of one process with four devices."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    arguments = (*TRAIN, *SILENT, "--out", out, "--data-dir", data_dir, "--steps", 6, "--parallel", "data")
    finish(launch(1, 4, *arguments))
    return out


def wait_for_step(started, folder, step):
    while len(log.read(folder)) < step:
        for process in started:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["fsdp", "pmap"])
@pytest.mark.requirement("R60")
def test_two_processes_train_as_one(kind, alone, data_dir, tmp_path):
    out = tmp_path / "run"
    drawn = ("--sample-every", 4) if kind == "fsdp" else SILENT
    arguments = (*TRAIN, *drawn, "--out", out, "--data-dir", data_dir, "--steps", 6, "--parallel", kind)
    first, second = finish(launch(2, 2, *arguments))
    assert "trained to step 6" in first
    assert second == ""  # the first alone speaks
    np.testing.assert_allclose(losses(out)[0], losses(alone)[0], rtol=1e-6)
    np.testing.assert_allclose(losses(out), losses(alone), rtol=1e-5)
    pictures = sorted(file.name for file in out.glob("samples/*"))
    assert pictures == (["step=4.png", "step=6.png"] if kind == "fsdp" else [])


def test_a_signal_to_one_ends_both_after_the_same_step_and_one_continues(alone, data_dir, tmp_path):
    out = tmp_path / "run"
    arguments = (*TRAIN, *SILENT, "--out", out, "--data-dir", data_dir, "--parallel", "fsdp", "--steps")
    started = launch(2, 2, *arguments, 2000)
    wait_for_step(started, out, 3)
    started[1].send_signal(signal.SIGTERM)
    first, _ = finish(started, (143, 143))
    assert "stopped by SIGTERM" in first
    step, _ = newest_params(out, open_run(out))
    assert step == len(losses(out)) >= 3
    np.testing.assert_allclose(losses(out)[0], losses(alone)[0], rtol=1e-6)
    finish(launch(1, 2, *arguments, step + 1))  # other processes, other devices
    assert newest_params(out, open_run(out))[0] == step + 1


def test_when_one_dies_the_other_does_not_hang(data_dir, tmp_path):
    out = tmp_path / "run"
    started = launch(2, 2, *TRAIN, *SILENT, "--out", out, "--data-dir", data_dir, "--steps", 2000)
    wait_for_step(started, out, 3)
    started[1].kill()
    since = time.monotonic()
    started[0].communicate(timeout=70)
    assert time.monotonic() - since < 70
    assert started[0].returncode != 0
    assert newest_params(out, open_run(out))[0] >= 2


def test_two_processes_sample_as_one(alone, tmp_path):
    arguments = ("sample", alone, "--w", 2, "--per-label", 1, "--steps", 2, "--out")
    finish(launch(2, 2, *arguments, tmp_path / "two"))
    finish(launch(1, 1, *arguments, tmp_path / "one"))
    two, one = (np.load(tmp_path / name / "w=2.npz")["images"].astype(int) for name in ("two", "one"))
    assert np.abs(two - one).max() <= 1  # grey levels, of which 1 is 0.008
