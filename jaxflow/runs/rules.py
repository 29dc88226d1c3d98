"""The guidance rules by name, with options that suit images."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from jaxflow import guidance
from jaxflow.guidance import LogProb
from jaxflow.nn import Change
from jaxflow.ranges import quoted
from jaxflow.times import step_around
from jaxflow.typing import Condition, GaussianPath, GuidedField, PairedField, Rule, Scale, VectorField


class Guides(NamedTuple):
    """What a rule may need besides the field."""

    path: GaussianPath
    times: Float[Array, " steps"]
    """The sampler's time grid."""
    worse: GuidedField | None = None
    """The field of a less trained model, for autoguidance."""
    log_prob: LogProb | None = None
    """A classifier of noisy images, for classifier guidance."""
    changed: Callable[[Change], GuidedField] | None = None
    """The field of the same network with a change of its blocks."""
    outputs: PairedField | None = None
    """Of a network with an auxiliary head, for internal guidance."""


def scheduled(schedule: Callable[[Scale], Scale]) -> Rule:
    """Classifier-free guidance whose scale is a function of t, made from w."""

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        return guidance.classifier_free(field, y, null, schedule(w))

    return rule


def _zero_star(guides: Guides) -> Rule:
    """CFG-Zero* with zero velocity for the first 4 % of the steps, as published."""
    return guidance.zero_star(zero_until=guides.times[_zeroed_steps(len(guides.times) - 1)])


def _zeroed_steps(steps: int) -> int:
    return int(0.04 * steps)


def _half_a_step_ahead(guides: Guides) -> Rule:
    def ahead(t: Array) -> Array:
        start, end = step_around(guides.times, t)
        return (end - start) / 2

    return guidance.rectified(ahead)


def _autoguidance(guides: Guides) -> Rule:
    assert guides.worse is not None
    return guidance.autoguidance(guides.worse)


def _internal(guides: Guides) -> Rule:
    assert guides.outputs is not None
    return guidance.internal(guides.outputs)


def _internal_classifier_free(guides: Guides) -> Rule:
    """The scale is that of classifier-free guidance."""
    assert guides.outputs is not None
    inside = guidance.extrapolated(guides.outputs, W_INTERNAL)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        return guidance.classifier_free(inside, y, null, w)

    return rule


def _away_from(change: Change) -> Callable[[Guides], Rule]:
    def rule(guides: Guides) -> Rule:
        assert guides.changed is not None
        return guidance.autoguidance(guides.changed(change))

    return rule


def _classifier(guides: Guides) -> Rule:
    assert guides.log_prob is not None
    return guidance.by_classifier(guides.path, guides.log_prob)


W_INTERNAL = 1.25
"""Scale of the internal guidance below classifier-free guidance."""
INTERNAL = ("internal", "internal_classifier_free")
"""Rules that guide away from an auxiliary head of the network, in the same call."""
CHANGES = {
    "perturbed_attention": Change("identity_attention"),
    "smoothed_energy": Change("blurred_attention"),
    "skipped_layers": Change("skip"),
}
"""Rules that guide away from the network itself, with this change of its middle block."""
RULES: dict[str, Callable[[Guides], Rule]] = {
    "classifier_free": lambda guides: guidance.classifier_free,
    "increasing": lambda guides: scheduled(lambda w: lambda t: 1 + 2 * (guidance.scale_at(w, t) - 1) * t),
    "plus_plus": lambda guides: scheduled(lambda w: guidance.plus_plus(w, guides.path, guides.times)),
    "rescaled": lambda guides: guidance.rescaled(),
    "projected": lambda guides: guidance.projected(guides.path, momentum=-0.5),
    "tangential_damping": lambda guides: guidance.tangential_damping(guides.path),
    "frequency_decoupled": lambda guides: guidance.frequency_decoupled(),
    "magnitude_aware": lambda guides: guidance.magnitude_aware(),
    "zero_star": _zero_star,
    "rectified": _half_a_step_ahead,
    "three_channels": lambda guides: guidance.on_channels(3),
    "classifier": _classifier,
    "autoguidance": _autoguidance,
    "internal": _internal,
    "internal_classifier_free": _internal_classifier_free,
    **{name: _away_from(change) for name, change in CHANGES.items()},
}
"""The scale of `increasing` grows from 1 to 2 w - 1; `three_channels` is how the original code of DiT guides
latents of four; `plus_plus` is CFG++ if the solver is `ddim`; `internal_classifier_free` guides further, by
w, what is guided internally by 1.25."""

NEEDS = {
    "autoguidance": "a less trained run on the same data, --worse RUN",
    "classifier": "a classifier of noisy images, which the scripts train",
    **dict.fromkeys(INTERNAL, "a network with an auxiliary head, trained with --network.auxiliary"),
    **dict.fromkeys(CHANGES, "the network of a field, whose blocks are changed"),
}
NEVER_CONDITIONAL = ("classifier", "plus_plus", "internal_classifier_free")
"""Rules that are not the conditional model at w = 1."""
WITHOUT_NULL = ("autoguidance", "internal", *CHANGES)
"""Rules that never evaluate the field at null, and thus not at a negative prompt."""


def is_conditional(name: str, w: float, steps: int) -> bool:
    """Whether a rule by name, at the scale w, is the conditional model itself."""
    rests = name == "zero_star" and _zeroed_steps(steps) > 0
    return w == 1 and name not in NEVER_CONDITIONAL and not rests


def check(name: str, *, worse: bool, log_prob: bool, network: bool, head: bool) -> None:
    """Check the name of a rule, and that the model, classifier, network or head it requires is given.

    Raises:
        ValueError: the message lists the rules, or says what is missing.
    """
    if name not in RULES:
        raise ValueError(f"rule = {quoted(name)}: must be one of {', '.join(RULES)}")
    given = {"autoguidance": worse, "classifier": log_prob, **dict.fromkeys(CHANGES, network)}
    given |= dict.fromkeys(INTERNAL, head)
    if not given.get(name, True):
        raise ValueError(f"rule = {name!r}: requires {NEEDS[name]}")
