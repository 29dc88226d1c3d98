"""One training at a time in a folder, by a lock that does not outlive its holder.

On a file system the operating system frees the lock of a process when it ends, however it ends. A bucket has
no such lock: an object `lock` is created only if absent and renewed every `RENEWAL` seconds while held; after
`LEASE` seconds without a renewal it is stale, and the next run takes it over. It is deleted only as it was
read, by its generation: of two runs that find it stale, one takes it over.
"""

import json
import os
import socket
import threading
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jaxflow.places import Place, bucket_errors, filesystem

RENEWAL, LEASE = 20.0, 120.0
"""Seconds."""


class Lock:
    """Hold `folder` while the context is open.

    Raises:
        BlockingIOError: another process holds it; the message says which.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Place):
        self._held = _FileLock(folder) if isinstance(folder, Path) else _BucketLock(folder)

    def __enter__(self) -> "Lock":
        self._held.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        self._held.release()


class _FileLock:
    """`lock` is held; `lock.holder` names the holder, since a locked file cannot be read on Windows."""

    def __init__(self, folder: Path):
        self._folder, self._holder = folder, folder / "lock.holder"
        self._lock = FileLock(folder / "lock", timeout=0, thread_local=False)

    def acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise _in_use(self._folder, _text(self._holder)) from None
        except NotImplementedError as error:  # a file system without locks
            raise OSError(f"{self._folder}: the folder cannot be locked ({error}): choose another") from None
        self._holder.write_text(_me())

    def release(self) -> None:
        with suppress(OSError):
            self._holder.unlink()
        self._lock.release()


class _BucketLock:
    """The object `lock` names its holder and the time of its last renewal."""

    def __init__(self, folder: Place):
        self._folder, self._object = folder, f"{folder}/lock"
        self._token, self._ended = uuid.uuid4().hex, threading.Event()

    def acquire(self) -> None:
        with bucket_errors(self._folder):
            if not self._create():
                self._remove_stale()
                if not self._create():
                    raise _in_use(self._folder, "another process, since this moment")
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with bucket_errors(self._folder):
            found = self._read()
            if found.get("token") == self._token:
                self._delete(found)

    def _create(self) -> bool:
        try:
            filesystem().pipe_file(self._object, self._content(), mode="create")
        except FileExistsError:  # also where gcsfs repeats a request that had succeeded
            return self._read().get("token") == self._token
        return True

    def _remove_stale(self) -> None:
        found = self._read()
        left = LEASE - (time.time() - found.get("time", 0.0))
        if left > 0:
            remedy = f"if that was killed, try again in {left:.0f} s"
            raise _in_use(self._folder, f"{found.get('holder')} ({remedy})")
        self._delete(found)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL):
            try:
                if self._read().get("token") != self._token:
                    warnings.warn(f"{self._folder}: another run has taken its lock; stop one", stacklevel=1)
                    return
                filesystem().pipe_file(self._object, self._content())
            except Exception as error:  # a network that is down for a moment
                warnings.warn(f"{self._folder}: its lock was not renewed: {error}", stacklevel=1)

    def _read(self) -> dict[str, Any]:
        """What the object says, and its generation; nothing if there is no object."""
        found: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError):
            found["generation"] = filesystem().info(self._object)["generation"]
            found |= json.loads(filesystem().cat_file(self._object))
        return found

    def _delete(self, found: dict[str, Any]) -> None:
        """Delete what was read, unless it has been renewed, replaced or deleted since."""
        with suppress(FileNotFoundError, FileExistsError):
            name = self._object.removeprefix("gs://").split("/", 1)
            filesystem().call("DELETE", "b/{}/o/{}", *name, ifGenerationMatch=found.get("generation", "0"))

    def _content(self) -> bytes:
        return json.dumps({"holder": _me(), "token": self._token, "time": time.time()}).encode()


def _in_use(folder: Place, holder: str) -> BlockingIOError:
    return BlockingIOError(f"{folder} is in use by {holder}: wait for it, stop it, or choose another folder")


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:  # between the lock and the name of its holder
        return "another process"
