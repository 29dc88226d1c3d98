"""What scripts keep for later ones, in a folder that may be deleted at any time: $XDG_CACHE_HOME/jaxflow.

    programs    compiled, so that a script that was run before starts without compiling
    captions    embeddings of a data set's captions by a frozen text encoder

JAX finds a program by a hash of it, of its options, of the devices and of the version of the compiler; what
cannot be read is compiled anew. `JAX_COMPILATION_CACHE_DIR=FOLDER` chooses another place for programs,
`JAX_ENABLE_COMPILATION_CACHE=false` keeps none.
"""

import os
from pathlib import Path

import jax

SECONDS = 1.0
"""Programs that compile faster are not kept."""


def directory() -> Path:
    """The folder; ~/.cache/jaxflow where XDG_CACHE_HOME is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxflow"


def keep_programs() -> None:
    """Keep compiled programs in the folder, unless JAX was told another one."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(directory() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)
