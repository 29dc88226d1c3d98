"""The optimisers of the presets: linear warm-up, cosine decay to zero, clipping of the gradient's norm."""

import optax

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
    """Muon for matrices, Adam for all else; arguments as of `adamw`.

    A matrix moves along the orthogonal matrix that is nearest to its momentum, so that no direction of the
    gradient is left behind. Its learning rate is `MATRICES` times the other.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    transform = optax.contrib.muon(
        _schedule(MATRICES * learning_rate, steps, warmup),
        weight_decay=weight_decay,
        adam_b2=0.99,
        adam_learning_rate=_schedule(learning_rate, steps, warmup),
    )
    return optax.chain(optax.clip_by_global_norm(clip), transform)


def _schedule(peak: float, steps: int, warmup: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, min(warmup, steps // 10), steps)
