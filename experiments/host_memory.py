"""Memory of a CPU program: each call reuses what the last one freed.

XLA's CPU backend (JAX 0.10 to 0.12) allocates a program's memory anew at each call. glibc returns such large
blocks to the system, which must zero their pages for the next call: 320,000 page faults in a training step of
a small transformer, a sixth of its time. Keeping them costs memory: after one or two dozen calls the heap
settles at two to four times what the program needs. Delete this module once its test counts few faults
without it.
"""

import ctypes
import os
import platform
from importlib.util import find_spec

from jaxflow.devices import processes

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def keep() -> None:
    """Keep freed blocks of up to a sixteenth of the machine's memory, at most 2 GiB, in the process.

    Call it before JAX starts its threads. It does nothing without glibc 2.35, nor where JAX has an
    accelerator: there many threads prepare data, and would wait for each other.
    """
    if platform.libc_ver()[0] != "glibc" or not _on_cpu():
        return
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    libc = ctypes.CDLL(None)
    if libc.mallopt(
        M_MMAP_THRESHOLD, min(2**31 - 1, machine // 16)
    ):  # smaller blocks are taken from the heap
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # whose end is not returned
        libc.mallopt(M_ARENA_MAX, 1)  # and which all threads share: other arenas have 64 MiB each


def _on_cpu() -> bool:
    asked = os.environ.get("JAX_PLATFORMS")
    return asked == "cpu" if asked else not (find_spec("jax_plugins") or processes.has_tpu())
