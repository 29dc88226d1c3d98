"""The guidance rules by name, each as a function of the scale w, at options that suit images."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxflow import guidance
from jaxflow.training.noisy_classifier import LogProb
from jaxflow.typing import Condition, GuidedField, GaussianPath, Scale, StatefulField, VectorField


@dataclass(frozen=True)
class Models:
    """What a rule may guide with."""

    field: GuidedField
    path: GaussianPath
    null: Condition
    steps: int
    """Of the sampler."""
    worse: GuidedField | None = None
    """A less trained model, for autoguidance."""
    log_prob: LogProb | None = None
    """A classifier of noisy images, for classifier guidance."""


Rule = Callable[[Models, jax.Array, jax.Array], VectorField | StatefulField]
"""(models, labels (b,), w) -> the guided field."""


def _classifier(models: Models, y: jax.Array, w: Scale) -> VectorField:
    assert models.log_prob is not None
    null = jnp.full_like(y, models.null)
    return guidance.classifier(lambda x, t: models.field(x, t, null), models.path, models.log_prob, y, w)


def _autoguidance(models: Models, y: jax.Array, w: Scale) -> VectorField:
    assert models.worse is not None
    return guidance.autoguidance(models.field, models.worse, y, w)


RULES: dict[str, Rule] = {
    "classifier_free": lambda m, y, w: guidance.classifier_free(m.field, y, m.null, w),
    "interval": lambda m, y, w: guidance.classifier_free(m.field, y, m.null, guidance.interval(w, 0.25, 0.8)),
    "increasing": lambda m, y, w: guidance.classifier_free(m.field, y, m.null, lambda t: 1 + 2 * (w - 1) * t),
    "rescaled": lambda m, y, w: guidance.rescaled(m.field, y, m.null, w),
    "projected": lambda m, y, w: guidance.projected(m.field, m.path, y, m.null, w, momentum=-0.5),
    "zero_star": lambda m, y, w: guidance.zero_star(m.field, y, m.null, w),
    "rectified": lambda m, y, w: guidance.rectified(m.field, y, m.null, w, ahead=0.5 / m.steps),
    "classifier": _classifier,
    "autoguidance": _autoguidance,
}
"""`interval` guides for 0.25 <= t < 0.8, `increasing` with a scale that grows from 1 to 2 w - 1."""
