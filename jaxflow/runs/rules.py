"""The guidance rules by name, at options that suit images."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import guidance
from jaxflow.guidance import LogProb
from jaxflow.typing import Condition, GaussianPath, GuidedField, Rule, Scale, StatefulField, VectorField


class Guides(NamedTuple):
    """What a rule may need beside the field."""

    path: GaussianPath
    times: Float[Array, " steps"]
    """Of the sampler."""
    worse: GuidedField | None = None
    """A less trained model, for autoguidance."""
    log_prob: LogProb | None = None
    """A classifier of noisy images, for classifier guidance."""


def scheduled(schedule: Callable[[Scale], Scale]) -> Rule:
    """Classifier-free guidance with a scale that is a function of t made of w."""

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField | StatefulField:
        return guidance.classifier_free(field, y, null, schedule(w))

    return rule


def _resting(guides: Guides) -> Rule:
    """CFG-Zero* that rests for the first 4 % of the steps, as published."""
    return guidance.zero_star(rest=guides.times[int(0.04 * (len(guides.times) - 1))])


def _half_a_step_ahead(guides: Guides) -> Rule:
    times, last = guides.times, len(guides.times) - 2

    def ahead(t: Array) -> Array:
        step = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, last)
        return (times[step + 1] - times[step]) / 2

    return guidance.rectified(ahead)


def _autoguidance(guides: Guides) -> Rule:
    assert guides.worse is not None
    return guidance.autoguidance(guides.worse)


def _classifier(guides: Guides) -> Rule:
    assert guides.log_prob is not None
    return guidance.by_classifier(guides.path, guides.log_prob)


RULES: dict[str, Callable[[Guides], Rule]] = {
    "classifier_free": lambda guides: guidance.classifier_free,
    "interval": lambda guides: scheduled(lambda w: guidance.interval(w, 0.25, 0.8)),
    "increasing": lambda guides: scheduled(lambda w: lambda t: 1 + 2 * (guidance.scale_at(w, t) - 1) * t),
    "rescaled": lambda guides: guidance.rescaled(),
    "projected": lambda guides: guidance.projected(guides.path, momentum=-0.5),
    "zero_star": _resting,
    "rectified": _half_a_step_ahead,
    "classifier": _classifier,
    "autoguidance": _autoguidance,
}
"""`interval` guides for 0.25 <= t < 0.8, `increasing` with a scale that grows from 1 to 2 w - 1."""

NEEDS = {
    "autoguidance": "a worse model, a less trained run on the same data: --worse RUN",
    "classifier": "a classifier of noisy images, which the scripts train",
}


def check(name: str, *, worse: bool, log_prob: bool) -> None:
    """Refuse a rule by a name that there is not, or without what it guides by.

    Raises:
        ValueError: the message says which there are, or what it needs.
    """
    if name not in RULES:
        raise ValueError(f"rule = {name!r}: there are {', '.join(RULES)}")
    if not {"autoguidance": worse, "classifier": log_prob}.get(name, True):
        raise ValueError(f"rule = {name!r}: it needs {NEEDS[name]}")
