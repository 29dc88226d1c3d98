"""SHA256SUMS: the hash of every file in a folder, as `sha256sum -c SHA256SUMS` reads it too."""

import hashlib
import os
from pathlib import Path

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """List the files of `folder`, and see that they and the list are on the disk and not in its cache."""
    lines = [f"{_hash(file)}  {name}\n" for name, file in _files(folder).items()]
    (folder / NAME).write_text("".join(lines))
    for path in (folder / NAME, *(path for path in (folder, *folder.rglob("*")) if path.is_dir())):
        _flush(path)


def fault(folder: Path, *, without: str | None = None) -> str | None:
    """What is wrong with the files of `folder`, in words; None if every bit is as it was written.

    Args:
        folder: with its list.
        without: name of a folder in it whose files are neither read nor missed.
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


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): path for path in found}


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
