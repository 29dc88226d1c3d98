"""The loss of the first 100 steps of `digits`, as it was on one core.

With the same versions on a processor with the same instructions every digit comes out again; with others the
curve is the same but for rounding. `python tests/experiments/test_curve.py` writes the curve of this machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import flax
import jax
import jaxlib
import numpy as np
import optax
import pytest

from jaxflow.training import log

FILE = Path(__file__).with_name("curve.json")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
pytestmark = pytest.mark.slow


def conditions() -> str:
    """Versions and instructions."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text().split() if cpu.exists() else []
    packages = " ".join(f"{package.__name__} {package.__version__}" for package in (jax, jaxlib, flax, optax))
    return " ".join([packages, *(name for name in INSTRUCTIONS if name in flags)])


def curve(out) -> list[float]:
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    script = [sys.executable, "-m", "experiments.train", "digits", "--out", out, "--steps", "100"]
    options = ["--log-every", "1", "--sample-every", "0", "--parallel", "jit"]
    # As for users: conftest.py has tests compile fast.
    environment = dict(os.environ, JAX_DISABLE_MOST_OPTIMIZATIONS="false", XLA_FLAGS="")
    root = Path(__file__).parents[2]
    subprocess.run([*pin, *script, *options], check=True, capture_output=True, cwd=root, env=environment)
    return [line["loss"] for line in log.read(Path(out))]


def test_the_loss_curve_comes_out_again(tmp_path):
    kept = json.loads(FILE.read_text())
    found = curve(tmp_path / "run")
    if conditions() in kept:
        assert found == kept[conditions()]
    for other in kept.values():
        np.testing.assert_allclose(found[0], other[0], rtol=1e-5)
        np.testing.assert_allclose(found, other, rtol=1e-2)


if __name__ == "__main__":
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        kept[conditions()] = curve(Path(folder) / "run")
    FILE.write_text(json.dumps(kept, indent=1) + "\n")
