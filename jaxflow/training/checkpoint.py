"""Checkpoints of a run, the only module that touches orbax.

    500/            a whole checkpoint: `training`, `ema`, contents.json, and SHA256SUMS of all these files
    1000.writing/   one that is being written; it gets its name, in one rename, when all of it is on the disk
    500.deleting/   one that is being deleted
    500.damaged/    one whose files are not as they were written, set aside

and beside the folder an empty file, checkpoints.written: where it is, there has been a whole one.

So a run that is killed in any moment leaves only whole checkpoints under the name of a step. The moving
average has a folder of its own: sampling neither reads nor checks what is in `training`.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxflow.devices import processes
from jaxflow.training import checksums
from jaxflow.training.step import Params, TrainState

NONE = -1
"""In the place of a step."""
SLICE = 2**20
"""Bytes from which the devices that have copies of an array write a part each: each shape of a part is a
program to compile."""


PATTERN, BACKSLASH = "*?[", "\\"
"""Signs of a path that mean other files: orbax globs where it writes, tensorstore takes \\ for /."""


class Checkpoints:
    """The checkpoints in `directory`: the newest `keep`, and the one of the least loss.

    Use as a context manager; its end waits for what is being written.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self._directory, self._keep = directory.absolute(), keep
        self._written = self._directory.with_name(f"{self._directory.name}.written")
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._writer.shutdown()
        self.wait()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints, the newest last."""
        return sorted(int(folder.name) for folder in self._directory.glob("*") if folder.name.isdecimal())

    def save(self, state: TrainState, loss: float = inf) -> None:
        """Copy the state off the devices and write it, in the background, as the checkpoint of its step.

        Args:
            state: of which all numbers are finite.
            loss: by which the best checkpoint is chosen.

        Raises:
            OSError: this checkpoint, or the one before, could not be written.
            ValueError: as `restore`, of the path.
        """
        self._check_path(PATTERN + BACKSLASH)
        self.wait()
        self._directory.mkdir(parents=True, exist_ok=True)
        step = int(state.step)
        parts = _parts(state)
        contents = {"loss": loss if isfinite(loss) else inf, "shapes": _shapes(parts)}
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = SLICE
        with context:
            copied = ocp.save_checkpointables_async(self._folder(step, ".writing"), parts, overwrite=True)
        self._writing = self._writer.submit(self._commit, copied.result, step, contents)

    def wait(self) -> None:
        """Return when the last checkpoint is on disk; raises as `save`."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except Exception as error:
            raise OSError(
                f"{self._directory}: a checkpoint could not be written, those before it are whole: {error}"
            ) from error

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest whole checkpoint, or None where there never was one; damaged ones are set aside.

        For the run that writes here. Left-overs of an interrupted writing are deleted.

        Args:
            like: arrays, or their shapes with a sharding each: how the state is laid over devices.

        Raises:
            ValueError: no checkpoint is whole, or it is not of this network and optimiser; or the path has a
                sign of which orbax or tensorstore would make another path.
        """
        self._check_path(PATTERN + BACKSLASH)
        if processes.is_first():
            self._clear()
        step = processes.of_first(self._newest_whole(self._set_aside) if processes.is_first() else 0)
        if step == NONE:
            return None
        restored = self._load(step, _parts(like))
        return TrainState(ema=restored["ema"], **restored["training"])

    def restore_ema(self, like: Params) -> tuple[int, Params]:
        """The step and the moving average of the newest checkpoint of which it is whole.

        Args:
            like: arrays, or shapes; where no sharding is stated, on one device.

        Raises:
            FileNotFoundError: there is none yet.
            ValueError: none is whole, or it is not of this network.
        """
        self._check_path(BACKSLASH)
        newest = partial(self._newest_whole, self._pass_over, without="training")
        step = processes.of_first(newest() if processes.is_first() else 0)
        if step == NONE:
            raise FileNotFoundError(f"{self._directory} has no checkpoint yet: let the training run longer")
        return step, self._load(step, {"ema": like})["ema"]

    def _clear(self) -> None:
        for pattern in ("*.writing*", "*.deleting"):
            for left_over in self._directory.glob(pattern):
                shutil.rmtree(left_over)

    def _check_path(self, forbidden: str) -> None:
        path = str(self._directory)
        if any(sign in path for sign in forbidden) or path != path.encode(errors="replace").decode():
            raise ValueError(
                f"directory = {path!r}: a path in UTF-8 without {' '.join(forbidden)} is needed:"
                " choose another"
            )

    def _newest_whole(self, refuse: Callable[[int, str], None], without: str | None = None) -> int:
        """The step, or `NONE`; `refuse` is told of each newer one and its fault."""
        for step in reversed(self.steps):
            fault = checksums.fault(self._folder(step), without=without)
            if fault is None:
                return step
            refuse(step, fault)
        if self.steps or any(self._directory.glob("*.damaged*")) or self._written.exists():
            raise ValueError(
                f"{self._directory}: no checkpoint is whole; to start anew, choose another folder"
            )
        return NONE

    def _set_aside(self, step: int, fault: str) -> None:
        number = len(list(self._directory.glob(f"{step}.damaged*")))
        aside = self._folder(step).rename(self._folder(step, f".damaged{number or ''}"))
        warnings.warn(f"{self._folder(step)} is damaged: {fault}; set aside as {aside.name}", stacklevel=4)

    def _pass_over(self, step: int, fault: str) -> None:
        warnings.warn(f"{self._folder(step)} is damaged: {fault}; passed over", stacklevel=4)

    def _folder(self, step: int, state: str = "") -> Path:
        return self._directory / f"{step}{state}"

    def _commit(self, wait: Callable[[], Any], step: int, contents: dict[str, Any]) -> None:
        wait()
        if not processes.is_first():
            return
        folder = self._folder(step, ".writing")
        (folder / "contents.json").write_text(json.dumps(contents, indent=1))
        checksums.write(folder)
        folder.rename(self._folder(step))
        self._written.touch()
        self._prune()

    def _prune(self) -> None:
        """Delete all but the newest and the best."""
        steps = self.steps
        best = min(reversed(steps), key=self._loss)
        for step in steps[: -self._keep]:
            if step != best:
                shutil.rmtree(self._folder(step).rename(self._folder(step, ".deleting")))

    def _loss(self, step: int) -> float:
        try:
            return self._contents(step)["loss"]
        except (OSError, ValueError, KeyError):  # damaged, which is found out when it is read
            return inf

    def _contents(self, step: int) -> dict[str, Any]:
        return json.loads((self._folder(step) / "contents.json").read_text())

    def _load(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        stored, asked = self._contents(step)["shapes"], _shapes(like)
        stored = {name: shape for name, shape in stored.items() if name.split("/")[0] in like}
        for name in sorted(stored.keys() | asked.keys()):
            if stored.get(name) != asked.get(name):
                raise ValueError(
                    f"{self._folder(step)} is of another network or optimiser, or of another version of"
                    f" jaxflow: {name} is {stored.get(name, 'not there')} and should be"
                    f" {asked.get(name, 'not there')}"
                )
        return ocp.load_checkpointables(self._folder(step), jax.tree.map(_abstract, like))


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
