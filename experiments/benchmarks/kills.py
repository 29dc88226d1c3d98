"""A run that is killed again and again, beside one that is never interrupted: are the bits the same?

    python -m experiments.benchmarks.kills DIR [--kills 20] [--steps 800] [--seed 0]

Trains `digits` on one core (with several threads XLA's CPU backend does not promise the same bits), once
unbroken and once killed with SIGKILL at random moments, from the start of the process on, and continued each
time by the same command. After each kill what is lost is counted, the steps between the last that was logged
and the newest whole checkpoint: no more than `EVERY`. At the end each array of the two last checkpoints is
compared bit by bit.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxflow.runs.folder import open_run
from jaxflow.runs.objective import optimizer_of
from jaxflow.training import checksums, log
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.step import initial_state

EVERY = 16
"""Steps that a kill may lose; a checkpoint is begun every half of them, and takes about as long to write."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    out: tyro.conf.Positional[Path]
    """Folder of the two runs."""
    kills: int = 20
    steps: int = 800
    longest: float = 24.0
    """Seconds after the start of a process, of which half or more pass before its first step."""
    seed: int = 0
    """Of the moments."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each kill, and the comparison."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.kills")
    a.out.mkdir(parents=True, exist_ok=True)
    subprocess.run(command(a, "unbroken"), check=True, capture_output=True)
    moments = random.Random(a.seed)
    killed = 0
    while killed < a.kills:
        seconds = moments.uniform(0, a.longest)
        if not kill_after(command(a, "killed"), seconds):
            raise SystemExit(f"the run ended after {killed} kills: more --steps are needed")
        killed += 1
        lost, found = left(a.out / "killed")
        print(f"kill {killed:2} after {seconds:5.1f} s: lost {lost} steps, {found}", flush=True)
        if lost > EVERY:
            raise SystemExit(f"more than {EVERY} steps are lost")
    subprocess.run(command(a, "killed"), check=True, capture_output=True)
    report(a.out)


def command(a: Arguments, name: str) -> list[str]:
    """Training on one core."""
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    script = [sys.executable, "-m", "experiments.train", "digits", "--out", str(a.out / name)]
    sizes = ["--steps", str(a.steps), "--batch-size", "8", "--sample-every", "0"]
    return [*pin, *script, *sizes, "--checkpoint-every", str(EVERY), "--log-every", "1"]


def kill_after(command: list[str], seconds: float) -> bool:
    """Start the process and kill it; False if it ended before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def left(run: Path) -> tuple[int, str]:
    """Steps that a kill lost, and what it left in the run folder."""
    folders = [folder.name for folder in (run / "checkpoints").glob("*")]
    whole = [int(n) for n in folders if n.isdecimal() and not checksums.fault(run / "checkpoints" / n)]
    damaged = sum(name.isdecimal() for name in folders) - len(whole)
    logged = max((line["step"] for line in log.read(run)), default=0)
    halves = [name for name in sorted(folders) if not name.isdecimal()]
    found = f"logged {logged}, whole {sorted(whole)}, damaged {damaged}, unfinished {halves}"
    return logged - max(whole, default=0), found


def report(out: Path) -> None:
    """Compare the two last checkpoints."""
    unbroken, killed = (newest_state(out / name) for name in ("unbroken", "killed"))
    pairs = zip(*map(jax.tree.leaves, (unbroken, killed)), strict=True)
    differing = sum(np.asarray(a).tobytes() != np.asarray(b).tobytes() for a, b in pairs)
    arrays = len(jax.tree.leaves(unbroken))
    print(f"step {int(killed.step)}: {differing} of {arrays} arrays differ in any bit")
    sys.exit(differing > 0)


def newest_state(out: Path):
    """The state of the newest checkpoint."""
    run = open_run(out)
    optimizer = optimizer_of(run.experiment)
    with Checkpoints(out / "checkpoints") as checkpoints:
        return checkpoints.restore(
            jax.eval_shape(lambda: initial_state(run.initial_params(jax.random.key(0)), optimizer))
        )


if __name__ == "__main__":
    main()
