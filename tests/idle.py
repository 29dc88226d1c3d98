"""Trainings without their gradient, for tests that need the folder of a run and not what it has learnt."""

from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from jaxflow.training import loop


@contextmanager
def steps(move=0.0):
    """In the block, a training does all but learn: a step adds `move` to each parameter."""

    def step(state, key, batch, **_):
        moved = jax.tree.map(lambda leaf: leaf + move, state.params)
        metrics = {"loss": jnp.zeros(()), "gradient_norm": jnp.zeros(()), "skipped": jnp.zeros((), jnp.int32)}
        return replace(state, step=state.step + 1, params=moved, ema=moved), metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        loop.compiled.cache_clear()  # of programs of the same training
        try:
            yield
        finally:
            loop.compiled.cache_clear()
