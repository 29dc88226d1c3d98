"""Files that are complete or unchanged, whatever interrupts the writing; and logs that grow."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jaxflow.places import Place, bucket_errors, filesystem

PATIENCE = 5.0
"""Seconds between uploads of a log in a bucket, where each is a change of an object."""


@contextmanager
def atomic_write(file: Place) -> Iterator[BinaryIO]:
    """A stream whose content becomes `file` at the end of the context, if nothing fails in it.

    Raises:
        OSError: the file cannot be written.
    """
    if not isinstance(file, Path):  # an object is in the bucket once all of it has arrived
        content = io.BytesIO()
        yield content
        with bucket_errors(file):
            file.write_bytes(content.getvalue())
        return
    # Not the file's name plus a suffix: it may already have 255 bytes.
    aside = file.with_name(f".{hashlib.sha256(os.fsencode(file.name)).hexdigest()[:16]}.writing")
    try:
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    finally:
        with suppress(OSError):  # the earlier error is more informative
            aside.unlink(missing_ok=True)


class Appendable:
    """A file that grows: what is written is on the disk, or within `PATIENCE` seconds in the bucket.

    Raises:
        OSError: here and below, the file cannot be written.
    """

    def __init__(self, file: Place):
        self._file, self._pending, self._since = file, bytearray(), time.monotonic()
        self._stream = file.open("ab", buffering=0) if isinstance(file, Path) else None

    def write(self, content: bytes) -> None:
        """Append."""
        if self._stream is not None:
            view = memoryview(content)
            while view:
                view = view[self._stream.write(view) :]
            return
        self._pending += content
        if time.monotonic() - self._since > PATIENCE:
            self._upload()

    def close(self) -> None:
        """Write what is pending, and close."""
        if self._stream is not None:
            self._stream.close()
        elif self._pending:
            self._upload()

    def _upload(self) -> None:
        """Append by composition, as objects cannot grow: the bucket joins the object and the new part."""
        file, bucket = str(self._file), filesystem()
        part = f"{file}.part"
        with bucket_errors(self._file):
            there = bucket.exists(file)
            bucket.pipe_file(part if there else file, bytes(self._pending))
            if there:
                bucket.merge(file, [file, part])
                bucket.rm_file(part)
        self._pending.clear()
        self._since = time.monotonic()
