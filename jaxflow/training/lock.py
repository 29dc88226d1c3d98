"""One run in a folder: a lock that ends with the process that holds it, however that ends."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Any


class Lock:
    """Hold `folder` while the context is open.

    Raises:
        BlockingIOError: another process holds it; the message says which.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> "Lock":
        self._file = (self._folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise BlockingIOError(
                f"{self._folder} is in use by {holder}: wait for it, stop it, or choose another folder"
            ) from None
        self._file.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", file=self._file, flush=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
