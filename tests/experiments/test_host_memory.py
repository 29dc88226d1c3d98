import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = """
import resource
{before}
import jax, jax.numpy as jnp
f = jax.jit(jax.grad(lambda w, x: jax.nn.relu(jax.nn.relu(jax.nn.relu(x @ w) @ w) @ w).sum()))
w, x = jnp.ones((8, 8)), jnp.ones((393216, 8))
for _ in range(4):
    f(w, x).block_until_ready()
counts = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        f(w, x).block_until_ready()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(counts))  # when the heap settles depends on the threads
"""


def page_faults(before: str) -> int:
    """The fewest of four calls of a program that allocates 36 MiB."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(before=before)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_program_reuses_what_the_last_call_freed():
    # Importing the scripts changes nothing: each call faults in its pages anew.
    assert page_faults("import experiments, experiments.sample") > 8192
    assert page_faults("from experiments import host_memory; host_memory.keep()") < 1024
