"""SHA256SUMS: the hash of every file in a folder, in the format of `sha256sum -c SHA256SUMS`."""

import hashlib
import os
from pathlib import Path

from jaxflow.places import Place, bucket_errors, filesystem

NAME = "SHA256SUMS"
BLOCK = 2**23
"""Bytes that are hashed at a time."""


def write(folder: Place) -> None:
    """Hash the files of `folder`; on a local disk, flush them and the list from the cache to the disk."""
    files = _files(folder)
    if isinstance(folder, Path):
        for file in files.values():
            _flush(file)
    lines = [f"{_hash(file)}  {name}\n" for name, file in files.items()]
    with bucket_errors(folder):
        (folder / NAME).write_text("".join(lines))
    if isinstance(folder, Path):
        for path in (folder / NAME, *(path for path in (folder, *folder.rglob("*")) if path.is_dir())):
            _flush(path)


def fault(folder: Place, *, without: str | None = None) -> str | None:
    """The first fault in the files of `folder`, as text; None if all match their hashes.

    Args:
        folder: with its list.
        without: name of a subfolder whose files are not checked.
    """
    try:
        lines = (folder / NAME).read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return f"{NAME} cannot be read ({error})"
    entries = (line.partition("  ") for line in lines)
    listed = {name: digest for digest, _, name in entries if name.split("/")[0] != without}
    found = {name: file for name, file in _files(folder).items() if name.split("/")[0] != without}
    for name in sorted(listed.keys() - found.keys()):
        return f"{name!r} is missing"
    for name in sorted(found.keys() - listed.keys()):
        return f"{name!r} is not in {NAME}"
    for name, file in found.items():
        try:
            digest = _hash(file)
        except OSError as error:
            return f"{name!r} cannot be read ({error})"
        if digest != listed[name]:
            return f"{name!r} is not as it was written"
    return None


def _files(folder: Place) -> dict[str, Place]:
    """The files below `folder` by their relative names, without the list."""
    if isinstance(folder, Path):
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in found]
    else:
        with bucket_errors(folder):
            start = str(folder).removeprefix("gs://")
            names = sorted(path.removeprefix(f"{start}/") for path in filesystem().find(start))
    return {name: folder / name for name in names if name != NAME}


def _hash(file: Place) -> str:
    digest = hashlib.sha256()
    with bucket_errors(file), file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    on_windows = os.name == "nt"
    if on_windows and path.is_dir():  # which Windows does not open, and writes by itself
        return
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
