"""The preset `digits` with a tiny network, which compiles fast."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.presets import digits

ROOT = Path(__file__).parents[1]
NETWORK = ("--network.width", "16", "--network.depth", "1", "--network.heads", "2")
SMALL = ("--batch-size", "16", "--checkpoint-every", "8", "--log-every", "4", "--sample-every", "0", *NETWORK)
ON_ONE_CORE = "import os; hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, {0})"
"""For processes whose bits are compared: XLA's CPU backend does not promise the same with several threads."""


def use(patch):
    """Replace the preset until `patch` is undone."""
    experiment = digits.experiment()
    small = dataclasses.replace(experiment, network=experiment.network.clone(width=16, depth=1, heads=2))
    patch.setattr(digits, "experiment", lambda: small)


def training(out, data_dir):
    """Arguments of `train` for twelve steps, with checkpoints after every fourth."""
    return "digits", "--out", str(out), "--data-dir", str(data_dir), "--steps", "12", *SMALL


def train(out, data_dir):
    """Twelve steps in a process as a user starts it, on one core."""
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    command = [*pin, sys.executable, "-m", "experiments.train", *training(out, data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
