"""The optimiser of the presets."""

import optax


def adamw(
    learning_rate: float, *, steps: int, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """AdamW with linear warm-up, cosine decay to zero at `steps`, and clipping of the gradient's norm.

    Args:
        learning_rate: at the end of the warm-up.
        steps: length of the run.
        warmup: steps of warm-up; cut to a tenth of a run shorter than ten warm-ups.
        weight_decay: decoupled, Loshchilov and Hutter 1711.05101.
        clip: largest global norm of a gradient.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(warmup, steps // 10), steps)
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(schedule, b1=0.9, b2=0.99, weight_decay=weight_decay),
    )
