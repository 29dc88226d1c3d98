"""Caches of the scripts, in a folder that may be deleted at any time: $XDG_CACHE_HOME/jaxflow.

    programs    compiled, so that a script that was run before starts without compiling
    captions    embeddings of a data set's captions by a frozen text encoder
    latents     moments of a data set's images by a frozen autoencoder

JAX finds a program by a hash of it, of its options, of the devices and of the version of the compiler; what
cannot be read is compiled again. `JAX_COMPILATION_CACHE_DIR=FOLDER` chooses another folder for programs,
`JAX_ENABLE_COMPILATION_CACHE=false` disables the cache. Without a writable home, a temporary folder is used
until the script ends.
"""

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import jax

SECONDS = 1.0
"""Programs that compile faster are not kept."""


def directory() -> Path:
    """The folder; ~/.cache/jaxflow where XDG_CACHE_HOME is not set.

    Raises:
        OSError: neither it nor a temporary folder can be written.
    """
    return _writable(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


@cache
def _writable(parent: str) -> Path:
    try:
        folder = Path(parent).expanduser() / "jaxflow"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return folder
    except (OSError, RuntimeError) as error:  # read-only, or no home
        print(f"note: nothing is cached: {error}; set XDG_CACHE_HOME to a writable folder", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="jaxflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def keep_programs() -> None:
    """Cache compiled programs in the folder, unless JAX is configured otherwise."""
    kept = getattr(jax.config, "jax_enable_compilation_cache")  # noqa: B009, which JAX does not declare
    if not kept or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    with suppress(OSError):  # no folder at all can be written: they are compiled each time
        jax.config.update("jax_compilation_cache_dir", str(directory() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)
