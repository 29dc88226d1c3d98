"""Memory of a CPU program: what one call frees, the next takes again.

XLA's CPU backend allocates what a program needs at each call. glibc hands so large a block back to the
system afterwards, which must fill its pages with zeros for the next: 320,000 page faults in a training step
of a small transformer, a sixth of its time. Kept, it costs memory: the heap settles, after a dozen calls or
two, at two to four times of what the program needs.
"""

import ctypes
import os
import platform
from importlib.util import find_spec

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def keep() -> None:
    """Keep freed blocks of up to a sixteenth of the machine's memory, and 2 GiB, in the process.

    Call it before JAX starts its threads. It does nothing without glibc 2.35, and nothing where the backend
    of an accelerator is installed: there many threads prepare data, and would wait for each other.
    """
    if platform.libc_ver()[0] != "glibc" or not _on_cpu():
        return
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    libc = ctypes.CDLL(None)
    if libc.mallopt(M_MMAP_THRESHOLD, min(2**31 - 1, machine // 16)):  # smaller blocks lie in the heap
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # whose end is not handed back
        libc.mallopt(M_ARENA_MAX, 1)  # and which is one for all threads: others than the first are of 64 MiB


def _on_cpu() -> bool:
    asked = os.environ.get("JAX_PLATFORMS")
    return asked == "cpu" if asked else not any(map(find_spec, ("jax_plugins", "libtpu")))
