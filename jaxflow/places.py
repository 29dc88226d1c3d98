"""Where runs, models and results are: folders and files of this machine, or of a bucket, `gs://bucket/run`.

A local place is a `pathlib.Path`; a place in a bucket is an `etils.epath.Path`, which has the same methods.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from etils import epath

Place: TypeAlias = Path | epath.Path
"""A file or folder, local or in a bucket."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A URL; a single letter would be a Windows drive. `pathlib` turns gs://bucket into gs:/bucket."""
NOT_IN_BUCKETS = "*?[]#\\"
"""Characters that gcsfs or orbax reads as patterns or object versions."""


def place(text: str | os.PathLike, name: str) -> Place:
    """The file or folder that a user named; `~` is the home directory.

    Args:
        text: a path, or gs://bucket/path.
        name: of the argument, for the message.

    Raises:
        ValueError: the text is empty, has a line break or is not UTF-8; it is the URL of another kind of
            storage; or the package that reads buckets is not installed.
    """
    text = os.fsdecode(os.fspath(text))
    said = f"{name} = {text[:200]!r}"
    if not text:
        raise ValueError(f"{name} is empty: name a file or folder; is a variable of your shell unset?")
    if any(sign in text for sign in "\n\r\0"):
        raise ValueError(f"{said}: a path must not have line breaks or NUL: choose another name")
    if text != text.encode(errors="replace").decode():
        raise ValueError(f"{said}: the path is not UTF-8: rename it, or choose another")
    url = SCHEME.fullmatch(text)
    if url is not None:
        return _in_bucket(said, *url.groups())
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError as error:  # no such user, or no home directory
        raise ValueError(f"{said}: {str(error).rstrip('.')}: write the path without ~") from None


def filesystem() -> Any:
    """The gcsfs file system, for what `epath` lacks: creating objects only if absent, and composing them.

    The instance that `epath` uses.
    """
    import fsspec

    return fsspec.filesystem("gcs", finalize_on_close=True)


def size(file: Place) -> int:
    """Bytes of a file."""
    return file.stat().st_size if isinstance(file, Path) else file.stat().length


@contextmanager
def bucket_errors(place: Place) -> Iterator[None]:
    """Raise whatever gcsfs, its transport or its sign-in raise as an OSError that names the place."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and type(error).__module__ == "builtins":
            raise
        raise OSError(f"{place}: the bucket cannot be used: {type(error).__name__}: {error}") from error


def _in_bucket(said: str, scheme: str, path: str) -> epath.Path:
    if scheme != "gs":
        raise ValueError(
            f"{said}: {scheme}:// is not supported: use a local folder (mount the storage, or copy the files)"
            " or gs://bucket/folder"
        )
    if not path.strip("/"):
        raise ValueError(f"{said}: the bucket is missing: gs://bucket/folder")
    if any(sign in path for sign in NOT_IN_BUCKETS):
        raise ValueError(f"{said}: a name in a bucket must not have any of {' '.join(NOT_IN_BUCKETS)}")
    if find_spec("gcsfs") is None:
        raise ValueError(f"{said}: buckets need an extra: pip install 'jaxflow[gcs]'")
    import fsspec

    # Where tensorflow is installed, epath would use its file system instead of gcsfs.
    os.environ.setdefault("EPATH_USE_TF", "false")
    # gcsfs would ask a second API for the kind of each bucket, which takes further rights.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # Others, such as orbax, write to the bucket too: listings must not be cached.
    fsspec.config.conf.setdefault("gs", {}).setdefault("use_listings_cache", False)
    # It logs the traceback of what it raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return epath.Path(f"gs://{path}")
