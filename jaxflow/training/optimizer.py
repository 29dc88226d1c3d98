"""The optimisers of the presets: linear warm-up, cosine decay to zero, clipping of the gradient's norm."""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from jaxflow.training.stacks import over_stacks

MATRICES = 10
"""Learning rate of Muon's matrices in units of that of the other parameters."""


def adamw(
    learning_rate: float, *, steps: int, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """AdamW.

    Args:
        learning_rate: at the end of the warm-up.
        steps: length of the run.
        warmup: steps of warm-up; cut to a tenth of a run shorter than ten warm-ups.
        weight_decay: decoupled, Loshchilov and Hutter 1711.05101.
        clip: largest global norm of a gradient.
    """
    schedule = _schedule(learning_rate, steps, warmup)
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(schedule, b1=0.9, b2=0.99, weight_decay=weight_decay),
    )


def muon(
    learning_rate: float, *, steps: int, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """Muon for the kernels of dense layers and convolutions, Adam for all else; arguments as of `adamw`.

    A matrix moves along the orthogonal matrix that is nearest to its momentum, so that no direction of the
    gradient is left behind. Its learning rate is `MATRICES` times the other.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; four iterations,
    not five, as the first step scales by the Schatten norm (Boissin et al. 2512.04632).
    """
    transform = optax.contrib.muon(
        _schedule(MATRICES * learning_rate, steps, warmup),
        ns_steps=4,
        preconditioning="schatten",
        weight_decay=weight_decay,
        adam_b2=0.99,
        adam_learning_rate=_schedule(learning_rate, steps, warmup),
        muon_weight_dimension_numbers=lambda stacks: jax.tree.map_with_path(_as_matrix, stacks),
    )
    return optax.chain(optax.clip_by_global_norm(clip), over_stacks(transform))


def _as_matrix(path: tuple[Any, ...], stack: jax.Array) -> MuonDimensionNumbers | None:
    """Inputs and outputs of stacked kernels (in, out), (times, in, out) of a loop, or (h, w, in, out)."""
    if path[-1].key.rpartition("_")[0] != "kernel":
        return None
    last = stack.ndim - 1
    return MuonDimensionNumbers(reduction_axis=(1, 2, 3) if last == 4 else last - 1, output_axis=last)


def _schedule(peak: float, steps: int, warmup: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, min(warmup, steps // 10), steps)
