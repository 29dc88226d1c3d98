"""One training step as a pure function of (state, key, batch).

The state is data only; loss and optimiser are arguments. The randomness of step n is
`fold_in(key, n)`, so that a resumed run draws the same random numbers as an uninterrupted one.

A step with a non-finite loss, gradient or parameter update is skipped: it counts as a step and changes
nothing else, so the state is always finite.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any
Objective = Callable[[Params, PRNGKeyArray, Any], Float[Array, " b"]]
"""(params, key, batch) -> the loss of each example."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of training; sampling uses `ema`."""

    step: Any
    """Steps done, an int32 scalar."""
    params: Params
    ema: Params
    optimizer: optax.OptState
    frozen: Params = None
    """Parameters that are not trained, and not in checkpoints; None if there are none."""

    def with_frozen(self, params: Params) -> Params:
        """What the loss takes: the trained parameters, or the pair of these and the frozen ones."""
        return params if self.frozen is None else (params, self.frozen)


def initial_state(
    params: Params, optimizer: optax.GradientTransformation, frozen: Params = None
) -> TrainState:
    """The state before the first step."""
    # A copy: a step that donates its state must not receive the same buffer twice.
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer.init(params), frozen)


def train_step(
    state: TrainState,
    key: PRNGKeyArray,
    batch: Any,
    *,
    loss: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Gradient of the mean loss, optimiser update, moving average of the parameters.

    Args:
        state: before the step.
        key: of the run; the step number is folded in.
        batch: what `loss` takes.
        loss: (params, key, batch) -> (b,); of the pair (params, frozen) if the state has frozen ones.
        optimizer: an optax transformation.
        ema_decay: decay of the moving average; at step n at most (1 + n) / (10 + n).
        accumulate: micro-batches, of which one at a time is in memory.
        axis_name: of `jax.pmap`; loss and gradient are averaged over it.

    Returns:
        The state after the step, and the scalars `loss`, `gradient_norm` and `skipped` (1 if the step was
        skipped).
    """

    def mean_loss(params, part):
        return jnp.mean(loss(state.with_frozen(params), jax.random.fold_in(key, state.step), part))

    value, gradient = mean_over_parts(jax.value_and_grad(mean_loss), state.params, batch, accumulate)
    if axis_name is not None:
        value, gradient = jax.lax.pmean((value, gradient), axis_name)
    norm = optax.tree.norm(gradient)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    n = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1 + n) / (10 + n))
    ema = optax.incremental_update(params, state.ema, 1 - decay)

    new = (params, ema, optimizer_state)
    finite = jnp.isfinite(value) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    old = (state.params, state.ema, state.optimizer)
    params, ema, optimizer_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    metrics = {"loss": value, "gradient_norm": norm, "skipped": 1 - finite.astype(jnp.int32)}
    return TrainState(state.step + 1, params, ema, optimizer_state, state.frozen), metrics


def mean_over_parts(function: Callable[[Params, Any], Any], params: Params, batch: Any, parts: int) -> Any:
    """The mean of `function(params, part)` over equal parts of a batch, computed one by one.

    Part i holds the examples i, i + parts, ..., equally many on each device, so that no example moves.
    """
    if parts == 1:
        return function(params, batch)

    def cut(leaf: Array) -> Array:
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(params, part)), None

    cuts = jax.tree.map(cut, batch)
    nothing = jax.tree.map(
        jnp.zeros_like, jax.eval_shape(function, params, jax.tree.map(lambda a: a[0], cuts))
    )
    total, _ = jax.lax.scan(add, nothing, cuts)
    return jax.tree.map(lambda leaf: leaf / parts, total)
