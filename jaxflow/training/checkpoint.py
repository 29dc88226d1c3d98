"""Checkpoints of a run, the only module that touches orbax.

A checkpoint has the folders `training` and `ema`, contents.json with the names and shapes of its arrays, and
SHA256SUMS of all these files. It is read back before it counts as complete (`step_folders`): what is complete
can be restored. The moving average has a folder of its own, so that sampling reads and checks nothing else.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import multihost
from orbax.checkpoint import v1 as ocp

from jaxflow.devices import processes
from jaxflow.places import Place
from jaxflow.training import checksums, readback
from jaxflow.training.step import Params, TrainState
from jaxflow.training.step_folders import step_folders

NONE = -1
"""Stands for no step."""
SLICE = 2**20
"""Arrays of this many bytes or more are written in parts by the devices that hold copies. Below, it does not
pay: every shape of a part is a program to compile."""
MISREAD = "*?[\\"
"""Characters in a path that orbax reads as a pattern, or tensorstore as a slash."""


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


# Each thread of orbax logs an error with its traceback, and passes it on to `Checkpoints.wait`.
logging.getLogger("absl").addFilter(_is_not_of_orbax)


class Checkpoints:
    """The checkpoints in `directory`: the newest `keep`, and the one of the smallest loss.

    Use as a context manager; on exit it waits for the checkpoint being written.
    """

    def __init__(self, directory: Place, keep: int = 2):
        self._folders, self._keep = step_folders(directory), keep
        self._directory = self._folders.directory
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._writer.shutdown()
        self.wait()

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, the newest last."""
        return self._folders.steps()

    def save(self, state: TrainState, loss: float = inf) -> None:
        """Copy the state off the devices, and write it in the background as the checkpoint of its step.

        Args:
            state: all numbers in it are finite.
            loss: by which the best checkpoint is chosen.

        Raises:
            OSError: this checkpoint, or the previous one, could not be written or read back.
            ValueError: as `check_path`.
        """
        check_path(self._directory)
        self.wait()
        step, parts = int(state.step), _parts(state)
        contents = {"loss": loss if isfinite(loss) else inf, "shapes": _shapes(parts)}
        like = jax.tree.map(_abstract, parts)
        with ExitStack() as link, self._failing():
            folder = link.enter_context(_plain(self._folders.unfinished(step)))
            context = ocp.Context()
            context.array.saving.min_slice_bytes_for_replica_parallel = SLICE
            with context:
                copied = ocp.save_checkpointables_async(folder, parts, overwrite=True)
            saved = readback.fingerprints(parts)
            read_back = partial(readback.check, partial(_load_some, folder, like), like, saved)
            commit = (link.pop_all(), copied.result, read_back, step, contents)
            self._writing = self._writer.submit(self._commit, *commit)

    def wait(self) -> None:
        """Return when the last checkpoint is on disk; raises as `save`."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._failing():
                writing.result()

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest intact checkpoint, or None if there never was one; damaged ones are moved aside.

        Only for the run that writes here: it deletes what an interrupted run left unfinished.

        Args:
            like: arrays, or shapes with shardings: where each part of the state goes.

        Raises:
            ValueError: no checkpoint is intact, or it is of another network or optimiser; or as `check_path`.
        """
        check_path(self._directory)
        if processes.is_first():
            self._folders.clear()
        step = processes.from_first(lambda: self._newest_intact(self._move_aside))
        if step == NONE:
            return None
        restored = self._load(step, _parts(like))
        return TrainState(ema=restored["ema"], **restored["training"])

    def restore_ema(self, like: Params) -> tuple[int, Params]:
        """The step and the moving average of the newest checkpoint with an intact average.

        Args:
            like: arrays, or shapes; without a sharding, it goes to one device.

        Raises:
            FileNotFoundError: there is no checkpoint yet.
            ValueError: none is intact, or it is of another network; or as `check_path`.
        """
        check_path(self._directory)
        newest = partial(self._newest_intact, self._pass_over, without="training")
        step = processes.from_first(newest)
        if step == NONE:
            raise FileNotFoundError(f"{self._directory} has no checkpoint yet: let the training run longer")
        return step, self._load(step, {"ema": like})["ema"]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise OSError(
                f"{self._directory}: a checkpoint could not be written, those before it are intact: {error}"
            ) from error

    def _newest_intact(self, report: Callable[[int, str], None], without: str | None = None) -> int:
        """The step, or `NONE`; newer ones are reported with their faults."""
        for step in reversed(self.steps):
            fault = checksums.fault(self._folders.path(step), without=without)
            if fault is None:
                return step
            report(step, fault)
        if self.steps or self._folders.ever():
            raise ValueError(
                f"{self._directory}: no checkpoint is intact; to start over, choose another folder"
            )
        return NONE

    def _move_aside(self, step: int, fault: str) -> None:
        name = self._folders.move_aside(step, fault)
        warnings.warn(f"{self._folders.path(step)} is damaged: {fault}; moved aside as {name}", stacklevel=4)

    def _pass_over(self, step: int, fault: str) -> None:
        warnings.warn(f"{self._folders.path(step)} is damaged: {fault}; skipped", stacklevel=4)

    def _commit(
        self,
        link: ExitStack,
        wait: Callable[[], Any],
        read_back: Callable[[], None],
        step: int,
        contents: dict[str, Any],
    ) -> None:
        with link:
            wait()
            read_back()
        _wait_for_all(f"step {step} is read back")
        if not processes.is_first():
            return
        (self._folders.unfinished(step) / "contents.json").write_text(json.dumps(contents, indent=1))
        self._folders.finish(step)
        self._prune()

    def _prune(self) -> None:
        """Delete all but the newest and the best."""
        steps = self.steps
        best = min(reversed(steps), key=self._loss)
        for step in steps[: -self._keep]:
            if step != best:
                self._folders.delete(step)

    def _loss(self, step: int) -> float:
        try:
            return self._contents(step)["loss"]
        except (OSError, ValueError, KeyError):  # damaged, which is found out when it is read
            return inf

    def _contents(self, step: int) -> dict[str, Any]:
        return json.loads((self._folders.path(step) / "contents.json").read_text())

    def _load(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        stored, expected = self._contents(step)["shapes"], _shapes(like)
        stored = {name: shape for name, shape in stored.items() if name.split("/")[0] in like}
        for name in sorted(stored.keys() | expected.keys()):
            if stored.get(name) != expected.get(name):
                raise ValueError(
                    f"{self._folders.path(step)} was written for another network or optimiser, or by another"
                    f" version of jaxflow: {name} is {stored.get(name, 'missing')}, expected"
                    f" {expected.get(name, 'nothing')}"
                )
        with _plain(self._folders.path(step)) as folder:
            return ocp.load_checkpointables(folder, jax.tree.map(_abstract, like))


def check_path(directory: Place) -> None:
    """Raise a ValueError if no checkpoint can be written or read at a path."""
    if not _is_misread(directory):
        return
    if jax.process_count() > 1 or _is_misread(Path(tempfile.gettempdir())):
        raise ValueError(
            f"directory = {str(directory)!r}: a path with any of {' '.join(MISREAD)} works only in one"
            " process and with a TMPDIR without them: choose another folder"
        )


@contextmanager
def _plain(folder: Place) -> Iterator[Place]:
    """The folder by a path that is read as it is written: through a link, where its own is misread."""
    if not _is_misread(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxflow-") as aside:
        link = Path(aside) / "checkpoints"
        link.symlink_to(folder.parent, target_is_directory=True)
        yield link / folder.name


def _is_misread(path: Place) -> bool:
    return any(sign in path.as_posix() for sign in MISREAD)


def _load_some(folder: Place, like: Any, chosen: list[bool]) -> list[Any]:
    """Read some arrays of a checkpoint to the host, without other processes."""
    leaves, structure = jax.tree.flatten(like)
    asked = [_on_host(leaf) if one else ocp.PLACEHOLDER for leaf, one in zip(leaves, chosen, strict=True)]
    parts = jax.tree.unflatten(structure, asked)
    used = {
        name: part
        for name, part in parts.items()
        if any(leaf is not ocp.PLACEHOLDER for leaf in jax.tree.leaves(part))
    }
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{me}"
    )
    with ocp.Context(multiprocessing_options=alone):
        return jax.tree.leaves(parts | ocp.load_checkpointables(folder, used))


def _wait_for_all(name: str) -> None:
    """A barrier of this thread: by the coordinator, since the devices belong to the training step."""
    if jax.process_count() > 1:
        multihost.sync_global_processes(f"jaxflow: {name}", processes=set(range(jax.process_count())))


def _on_host(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)  # its shape and type, without its memory


def _parts(state: TrainState) -> dict[str, Any]:
    training = {"step": state.step, "params": state.params, "optimizer": state.optimizer}
    return {"training": training, "ema": state.ema}


def _shapes(parts: dict[str, Any]) -> dict[str, list[int]]:
    named = jax.tree.leaves_with_path(parts)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): [*leaf.shape] for path, leaf in named}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # A sharding is stated, since orbax would otherwise ask for the devices of the run that saved it.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or here)
