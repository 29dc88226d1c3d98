"""Files that are whole or as they were, whatever interrupts their writing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes `file` at the end of the context, if nothing fails in it.

    Raises:
        OSError: the file cannot be written.
    """
    aside = file.with_name(f"{file.name}.writing")
    try:
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
