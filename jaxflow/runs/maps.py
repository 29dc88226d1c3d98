"""Flow maps in runs: how their losses draw jumps and guidance, and what is learnt with guidance inside.

The condition of a map's network is an `nn.Jump`. In training a guidance scale w and an interval of time are
drawn for each example; the map learns the field that is guided by w inside the interval,

    u + (w - 1) (u(x, t, y) - u(x, t, null))

where u is the conditional velocity, and the difference that of the network's own unguided fields at s = t.

Source: Geng et al. 2505.13447, section 4.2, and 2512.02012, section 4.2.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxflow import nn, per_example, times
from jaxflow.nn.jumps import unguided
from jaxflow.per_example import expand
from jaxflow.runs import rules
from jaxflow.typing import Condition, GaussianPath, GuidedAverage, GuidedField, Rule, StatefulField

STEPS = 10
"""Of the sampler whose time grid a distilled rule may need."""

OPTIONS: dict[str, dict[str, Any]] = {
    "mean_flow": {"identity": "eulerian", "tangent": "conditional"},
    "improved_mean_flow": {"identity": "eulerian", "tangent": "own"},
    "consistency": {"identity": "eulerian", "tangent": "conditional"},
    "lagrangian": {"identity": "lagrangian"},
    "shortcut": {"identity": "semigroup"},
}
"""Of `map_losses.flow_map`, by the name of an objective."""


def average_of(field: GuidedField) -> GuidedAverage:
    """The average velocity of a network as a field of jumps, whatever the length in y."""
    return lambda x, t, s, y: field(x, t, y._replace(length=s - t))


def encoder_of(network: Any) -> nn.JumpEncoder | None:
    """The encoder that makes a network that of a map; None of a field's."""
    encode = getattr(network, "encode", None)
    return encode if isinstance(encode, nn.JumpEncoder) else None


def check_jump(network: Any, rule: Any, w: float) -> None:
    """Raise a ValueError if a network cannot jump by this rule at this guidance scale."""
    encoder = encoder_of(network)
    if encoder is None:
        raise ValueError("calls: the model is a field; train a map with --objective")
    if rule != "classifier_free":
        raise ValueError(f"rule = {rule!r}: a map jumps by the guidance inside it, classifier_free")
    if w in (0, 1):
        return
    if encoder.most is None:
        raise ValueError(f"w = {w:g}: must be 0 or 1 without guidance inside the map, --w-most of train")
    if not 1 < w <= encoder.most:
        raise ValueError(f"w = {w:g}: must be 0, or from 1 to {encoder.most:g}, the guidance inside the map")


def draw_guidance(keys: Key[Array, " b"], most: float) -> nn.Guidance:
    """A scale with uniform logarithm in [1, most], and an interval that is all of [0, 1] half of the time.

    Otherwise it starts uniformly before 1/2, and ends uniformly after it.
    """
    numbers = jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys)
    scale, start, end, whole = jnp.moveaxis(numbers, 1, 0)
    whole = whole < 0.5
    return nn.Guidance(most**scale, jnp.where(whole, 0, start / 2), jnp.where(whole, 1, (1 + end) / 2))


def rule_of(name: str, path: GaussianPath) -> Rule:
    """A guidance rule by name that can be distilled: one without memory, another model or a classifier.

    Raises:
        ValueError: the rule is none of these.

    >>> from jaxflow import paths
    >>> rule_of("projected", paths.Linear())
    Traceback (most recent call last):
    ...
    ValueError: distill_rule = 'projected': it has a memory, and a map has none; choose another rule
    """
    try:
        rules.check(name, worse=False, log_prob=False, network=False, head=False)
    except ValueError as error:
        raise ValueError(f"distill_{error}") from None
    rule: Rule = rules.RULES[name](rules.Guides(path, times.uniform(STEPS)))
    if isinstance(rule(lambda x, t, y: x, jnp.zeros(1), jnp.zeros(()), 2.0), StatefulField):
        raise ValueError(f"distill_rule = {name!r}: it has a memory, and a map has none; choose another rule")
    return rule


def guided_field(field: GuidedField, null: Condition, rule: Rule) -> GuidedField:
    """A trained field guided by a rule, for conditions that are an `nn.Jump`."""

    def by_rule(x: Array, t: Array, y: nn.Jump) -> Array:
        if y.guidance is None:
            return field(x, t, y.y)
        guided: Any = rule(field, y.y, null, partial(_scale_at, y.guidance))
        return guided(x, t)

    return by_rule


def _scale_at(inside: nn.Guidance, t: Array) -> Array:
    """The scale of guidance at times (b,): 1 outside the interval."""
    return jnp.where((inside.start <= t) & (t <= inside.end), inside.w, 1)


def guide_inside(null: Condition) -> Any:
    """The `guide` of `map_losses.flow_map` for conditions that are an `nn.Jump` with guidance."""

    def guide(average: GuidedAverage, x: Array, t: Array, y: nn.Jump, u: Array) -> Array:
        assert y.guidance is not None
        plain = y._replace(guidance=unguided(len(t)))
        away = plain._replace(y=per_example.null_like(y.y, null))
        difference = average(x, t, t, plain) - average(x, t, t, away)
        return u + expand(_scale_at(y.guidance, t) - 1, x) * difference

    return guide
