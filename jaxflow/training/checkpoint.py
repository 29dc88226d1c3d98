"""Checkpoints of a run, the only module that touches orbax.

A checkpoint is a folder named after its step, written aside and renamed when it is whole: a run
killed while it saves still has the one before. The moving average is stored by itself, so that
sampling reads nothing else.
"""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxflow.training.step import Params, TrainState


class Checkpoints:
    """The checkpoints in `directory`, of which the newest `keep` are kept; use as a context manager."""

    def __init__(self, directory: Path, keep: int = 2):
        self._orbax = ocp.training.Checkpointer(
            directory.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        newest = self._orbax.latest
        return None if newest is None else newest.step

    def save(self, state: TrainState) -> None:
        """Write the state as the checkpoint of its step, and return when it is on disk."""
        training = {"step": state.step, "params": state.params, "optimizer": state.optimizer}
        self._orbax.save_checkpointables(int(state.step), {"training": training, "ema": state.ema})

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, laid out over devices as `like` is."""
        training = {"step": like.step, "params": like.params, "optimizer": like.optimizer}
        abstract = jax.tree.map(
            lambda leaf: _abstract(leaf, leaf.sharding), {"training": training, "ema": like.ema}
        )
        restored = self._orbax.load_checkpointables(self.latest, abstract)
        return TrainState(ema=restored["ema"], **restored["training"])

    def restore_ema(self, like: Params) -> Params:
        """The moving average of the newest checkpoint, on one device; `like` may be abstract."""
        # Stated, since orbax would otherwise ask for the devices of the run that saved it.
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda leaf: _abstract(leaf, device), like)
        return self._orbax.load_checkpointables(self.latest, {"ema": abstract})["ema"]


def _abstract(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
