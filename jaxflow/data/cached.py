"""Folders of a cache, each filled once.

The name of a folder is a hash of everything that its content depends on, so that no stale one is ever read.
It is filled under a temporary name and renamed atomically when complete.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def filled(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled by the first call."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        fill(temporary)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _publish(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:
        # Another process was faster, and wrote the same arrays.
        if not folder.is_dir():
            raise
