"""Compiled programs kept on disk, so that a script that was run before starts without compiling.

JAX keeps them by a hash of the program, its options, the devices and the version of the compiler; what
cannot be read is compiled anew. `JAX_COMPILATION_CACHE_DIR=FOLDER` chooses another place,
`JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""

import os
from pathlib import Path

import jax

SECONDS = 1.0
"""Programs that compile faster are not kept."""


def cache_directory() -> Path:
    """Where this package keeps what it can make again: $XDG_CACHE_HOME/jaxflow, else ~/.cache/jaxflow."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxflow"


def keep() -> None:
    """Keep compiled programs below `cache_directory`, unless JAX was told another folder."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)
