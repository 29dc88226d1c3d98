"""The optimisers of the presets: linear warm-up, cosine decay to zero, clipping of the gradient's norm."""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from jaxflow.training.stacks import over_stacks

MATRICES = 10
"""Learning rate of Muon's matrices, relative to that of the other parameters."""


def adamw(
    learning_rate: float, *, steps: int, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """AdamW.

    Args:
        learning_rate: at the end of the warm-up.
        steps: length of the run, after which the rate is 0.
        warmup: steps of linear warm-up, at most a tenth of the run.
        weight_decay: decoupled, Loshchilov and Hutter 1711.05101.
        clip: largest global norm of a gradient.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(schedule(learning_rate, steps, warmup), b1=0.9, b2=0.99, weight_decay=weight_decay),
    )


def muon(
    learning_rate: float, *, steps: int, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """Muon for the kernels of dense layers and convolutions, Adam for all else; arguments as in `adamw`.

    A matrix is updated by the orthogonal matrix nearest to its momentum, so that all directions of the
    gradient advance equally. Its learning rate is `MATRICES` times that of the other parameters.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; four iterations
    instead of five, since the first scales by the Schatten norm (Boissin et al. 2512.04632).
    """
    transform = optax.contrib.muon(
        schedule(MATRICES * learning_rate, steps, warmup),
        ns_steps=4,
        preconditioning="schatten",
        weight_decay=weight_decay,
        adam_b2=0.99,
        adam_learning_rate=schedule(learning_rate, steps, warmup),
        muon_weight_dimension_numbers=lambda stacks: jax.tree.map_with_path(_as_matrix, stacks),
    )
    return optax.chain(optax.clip_by_global_norm(clip), over_stacks(transform))


def _as_matrix(path: tuple[Any, ...], stack: jax.Array) -> MuonDimensionNumbers | None:
    """Input and output axes of stacked kernels (in, out), (times, in, out) of a loop, or (h, w, in, out)."""
    if path[-1].key.rpartition("_")[0] != "kernel":
        return None
    last = stack.ndim - 1
    return MuonDimensionNumbers(reduction_axis=(1, 2, 3) if last == 4 else last - 1, output_axis=last)


def schedule(peak: float, steps: int, warmup: int) -> optax.Schedule:
    """The learning rate by step: linear warm-up to `peak`, then cosine decay to 0 at `steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, min(warmup, steps // 10), steps)
