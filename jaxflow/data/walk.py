"""Walk a folder: every file once, whatever its links and names.

Links to folders are followed after the real folders, and only to folders that were not read before. Hidden
files, operating systems' metadata and run folders are skipped.
"""

import json
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxflow.data.names import shown
from jaxflow.places import Place

NOT_SHOWN = {"__MACOSX", "@eaDir"}
"""Folders in which operating systems keep metadata."""
MOST_BYTES = 2**24
"""Of a file that may be the configuration of a run."""
OF_RUNS = ({"experiment", "codec", "space"}, {"experiment", "image_shape"})
"""Fields in the configuration of a flow, and of an autoencoder."""


@dataclass(frozen=True)
class Walked:
    """The files of a folder, and what was skipped."""

    files: dict[str, Place]
    """Sorted paths inside the folder, with slashes and composed accents."""
    runs: tuple[str, ...]
    """Folders of runs."""
    links: int
    """Links to folders already read, or to parents of this folder."""
    empty: tuple[str, ...]
    """Folders with nothing in them."""


def walk(directory: Place) -> Walked:
    """Find the files below a folder.

    Raises:
        OSError: a folder cannot be read.
        ValueError: it is the folder of a run, or two names in it differ only in how accents are composed.
    """
    walker = _Walker(directory)
    found = walker.bucket() if not isinstance(directory, Path) else walker.local()
    files = {_composed(name): file for name, file in sorted(found)}
    return Walked(dict(sorted(files.items())), tuple(walker.runs), walker.links, tuple(walker.empty))


def is_run(folder: Place) -> bool:
    """Whether a folder is that of a run, by its configuration and checkpoints."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    if (folder / "checkpoints").is_dir():
        return True
    try:
        with config.open("rb") as stream:
            fields = json.loads(stream.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and any(names <= fields.keys() for names in OF_RUNS)


class _Walker:
    """The files, and what was skipped."""

    def __init__(self, root: Place):
        self.root, self.runs, self.links, self.empty = root, list[str](), 0, list[str]()

    def local(self) -> Iterator[tuple[str, Place]]:
        assert isinstance(self.root, Path)
        read = {_identity(folder) for folder in self.root.resolve().parents}
        waiting, linked = [("", os.fspath(self.root))], deque[tuple[str, str]]()
        while waiting or linked:
            is_link = not waiting
            name, here = linked.popleft() if is_link else waiting.pop()
            if _identity(here) in read:
                self.links += is_link
                continue
            read.add(_identity(here))
            entries = self._entries(here)
            if not entries:
                self.empty.append(name)
            if self._skipped(name, here, {entry.name for entry in entries}):
                continue
            for entry in entries:
                inside, link = f"{name}{entry.name}", entry.is_symlink()
                if _is_dir(entry):
                    (linked if link else waiting).append((f"{inside}/", entry.path))
                elif _is_file(entry) or (link and not os.path.exists(entry.path)):
                    yield inside, Path(entry.path)  # broken links too, so that they are reported

    def bucket(self) -> Iterator[tuple[str, Place]]:
        waiting = [("", self.root)]
        while waiting:
            name, here = waiting.pop()
            entries = sorted(entry for entry in here.iterdir() if _visible(entry.name))
            if self._skipped(name, here, {entry.name for entry in entries}):
                continue
            for entry in entries:
                if entry.is_dir():
                    waiting.append((f"{name}{entry.name}/", entry))
                else:
                    yield f"{name}{entry.name}", entry

    def _entries(self, here: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(here) as entries:
                return sorted((entry for entry in entries if _visible(entry.name)), key=lambda e: e.name)
        except OSError as error:
            raise OSError(
                f"data_dir = {shown(self.root)}: the folder {shown(here)} cannot be read, {error.strerror}:"
                " change its permissions, or move it"
            ) from error

    def _skipped(self, name: str, here: str | Place, names: set[str]) -> bool:
        """Whether the folder is that of a run."""
        twins = [twin for twin, number in Counter(map(_composed, names)).items() if number > 1]
        if twins:
            raise ValueError(
                f"data_dir = {shown(self.root)}: two names {shown(name + twins[0])} differ only in how their"
                " accents are composed: rename one"
            )
        if "config.json" not in names or not is_run(Path(here) if isinstance(here, str) else here):
            return False
        if not name:
            raise ValueError(f"data_dir = {shown(self.root)} is the folder of a run, not of images")
        self.runs.append(name)
        return True


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in NOT_SHOWN


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # circular links
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
