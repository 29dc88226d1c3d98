"""Folders of checkpoints: an interrupted write or deletion is never mistaken for a checkpoint.

On a file system a folder is renamed to its step once all of it is on the disk:

    500/            complete
    1000.writing/   being written
    500.deleting/   being deleted
    500.damaged/    its files do not match their hashes: moved aside

A bucket cannot rename a folder in one step. There the list of hashes is the mark of a complete checkpoint: it
is written last and deleted first, and an object `500.damaged` says why folder 500 is not used.

Next to them, `checkpoints.written` records that there has been a complete checkpoint.
"""

import shutil
from pathlib import Path

from jaxflow.places import Place, bucket_errors, filesystem
from jaxflow.training import checksums


def step_folders(directory: Place) -> "Local | Bucket":
    """The folders in `directory`, which need not exist yet."""
    return Local(directory.absolute()) if isinstance(directory, Path) else Bucket(directory)


class Local:
    """On a file system."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._written = directory.with_name(f"{directory.name}.written")

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, the newest last."""
        return sorted(int(folder.name) for folder in self.directory.glob("*") if folder.name.isdecimal())

    def path(self, step: int) -> Path:
        """Folder of a complete checkpoint."""
        return self.directory / str(step)

    def unfinished(self, step: int) -> Path:
        """Folder to write a checkpoint into."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"{step}.writing"

    def finish(self, step: int) -> None:
        """Make the written checkpoint, with its list of hashes, a complete one."""
        checksums.write(self.unfinished(step))
        self.unfinished(step).rename(self.path(step))
        self._written.touch()

    def delete(self, step: int) -> None:
        """Delete a complete checkpoint."""
        shutil.rmtree(self.path(step).rename(self.directory / f"{step}.deleting"))

    def move_aside(self, step: int, fault: str) -> str:
        """Keep a damaged checkpoint under another name, which is returned."""
        number = len(list(self.directory.glob(f"{step}.damaged*")))
        return self.path(step).rename(self.directory / f"{step}.damaged{number or ''}").name

    def clear(self) -> None:
        """Delete what an interrupted run left unfinished."""
        for pattern in ("*.writing*", "*.deleting"):
            for left_over in self.directory.glob(pattern):
                shutil.rmtree(left_over)

    def ever(self) -> bool:
        """Whether there has been a complete checkpoint."""
        return self._written.exists() or any(self.directory.glob("*.damaged*"))


class Bucket:
    """In a bucket."""

    def __init__(self, directory: Place):
        self.directory = directory
        self._written = directory.with_name(f"{directory.name}.written")

    def steps(self) -> list[int]:
        """As of `Local`."""
        return sorted(step for step, names in self._found().items() if checksums.NAME in names)

    def path(self, step: int) -> Place:
        """As of `Local`."""
        return self.directory / str(step)

    unfinished = path

    def finish(self, step: int) -> None:
        """As of `Local`."""
        with bucket_errors(self.directory):
            self._damaged(step).unlink(missing_ok=True)
            checksums.write(self.path(step))
            self._written.write_text("")

    def delete(self, step: int) -> None:
        """As of `Local`."""
        with bucket_errors(self.directory):
            (self.path(step) / checksums.NAME).unlink(missing_ok=True)
            filesystem().rm(str(self.path(step)), recursive=True)

    def move_aside(self, step: int, fault: str) -> str:
        """As of `Local`."""
        with bucket_errors(self.directory):
            self._damaged(step).write_text(fault)
            (self.path(step) / checksums.NAME).unlink(missing_ok=True)
        return self._damaged(step).name

    def clear(self) -> None:
        """As of `Local`."""
        with bucket_errors(self.directory):
            for step, names in self._found().items():
                if checksums.NAME not in names and not self._damaged(step).exists():
                    filesystem().rm(str(self.path(step)), recursive=True)

    def ever(self) -> bool:
        """As of `Local`."""
        with bucket_errors(self.directory):
            return self._written.exists()

    def _damaged(self, step: int) -> Place:
        return self.directory / f"{step}.damaged"

    def _found(self) -> dict[int, set[str]]:
        """Names of files by the step of their folder."""
        start = str(self.directory).removeprefix("gs://")
        found: dict[int, set[str]] = {}
        with bucket_errors(self.directory):
            for path in filesystem().find(start):
                step, _, name = path.removeprefix(f"{start}/").partition("/")
                if step.isdecimal() and name:
                    found.setdefault(int(step), set()).add(name)
        return found
