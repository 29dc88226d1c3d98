"""Whether a run that is killed again and again ends bit-identical to an uninterrupted one.

    python -m experiments.benchmarks.kills DIR [--kills 20] [--steps 800] [--seed 0]

Trains `digits` on one core (with several threads XLA's CPU backend is not deterministic), once without
interruption and once killed with SIGKILL at random moments after its start, and resumed each
time by the same command. After each kill the lost steps are counted, from the newest intact checkpoint to the
last logged step: at most `EVERY`. At the end the arrays of the two last checkpoints are compared bit by bit.
"""

import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
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
"""Steps that a kill may lose; checkpoints begin at half that interval, and take about as long to write."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    out: tyro.conf.Positional[Path]
    """Folder of the two runs."""
    kills: int = 20
    steps: int = 800
    longest: float = 24.0
    """Seconds after the start of a process at most; half of them or more pass before its first step."""
    seed: int = 0
    """Seed of the random times."""


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
            raise SystemExit(f"the run ended after {killed} kills: choose more --steps")
        killed += 1
        lost, found = left(a.out / "killed")
        print(f"kill {killed:2} after {seconds:5.1f} s: lost {lost} steps, {found}", flush=True)
        if lost > EVERY:
            raise SystemExit(f"more than {EVERY} steps were lost")
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
        process.kill()
    process.wait()
    return alive


def left(run: Path) -> tuple[int, str]:
    """The steps that a kill lost, and what it left in the run folder."""
    folders = [folder.name for folder in (run / "checkpoints").glob("*")]
    intact = [int(n) for n in folders if n.isdecimal() and not checksums.fault(run / "checkpoints" / n)]
    damaged = sum(name.isdecimal() for name in folders) - len(intact)
    logged = max((line["step"] for line in log.read(run)), default=0)
    halves = [name for name in sorted(folders) if not name.isdecimal()]
    found = f"logged {logged}, intact {sorted(intact)}, damaged {damaged}, unfinished {halves}"
    return logged - max(intact, default=0), found


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
        return checkpoints.restore(jax.eval_shape(partial(initial_state, optimizer=optimizer), run.shapes))


if __name__ == "__main__":
    main()
