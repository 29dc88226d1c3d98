"""Exact fields of a mixture, and every guidance rule with the options that make it the affine rule."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import linspace, normal, three_components

from jaxflow import guidance, mixtures, paths
from jaxflow.typing import StatefulField

NULL = 3


def field(path):
    return lambda x, t, y: mixtures.velocity(three_components(), path, x, t, y)


LINEAR = paths.Linear()
FIELD = jax.jit(field(LINEAR))  # compiled once for all tests of a file


def inputs(n=16):
    return normal(n, 2), linspace(0.02, 0.98, n), jnp.asarray(np.arange(n) % 3, jnp.int32)


def class_log_prob(path):
    def log_prob(x, t, y):
        table = mixtures.class_log_prob(three_components(), path, x.astype(t.dtype), t)
        return jnp.take_along_axis(table, y[:, None], axis=1)[:, 0]

    return log_prob


def scheduled(schedule):
    """Classifier-free guidance with a schedule of w."""
    return lambda field, y, null, w: guidance.classifier_free(field, y, null, schedule(w))


RULES = {  # (path, field) -> the rule
    "classifier_free": lambda path, field: guidance.classifier_free,
    "interval": lambda path, field: scheduled(lambda w: guidance.interval(w, 0, 1)),
    "several": lambda path, field: lambda field, y, null, w: guidance.several(field, [y], null, [w]),
    "by_classifier": lambda path, field: guidance.by_classifier(path, class_log_prob(path)),
    "autoguidance": lambda path, field: guidance.autoguidance(
        lambda x, t, y: field(x, t, jnp.full_like(y, NULL))
    ),
    "internal": lambda path, field: guidance.internal(
        lambda x, t, y: (field(x, t, jnp.full_like(y, NULL)), field(x, t, y))
    ),
    "rescaled": lambda path, field: guidance.rescaled(phi=0.0),
    "projected": lambda path, field: guidance.projected(path, parallel=1.0),
    "tangential_damping": lambda path, field: guidance.tangential_damping(path, share=0.0),
    "frequency_decoupled": lambda path, field: guidance.frequency_decoupled((1.0, 1.0)),
    "magnitude_aware": lambda path, field: guidance.magnitude_aware(alpha=0.0),
    "zero_star": lambda path, field: guidance.zero_star(),
    "rectified": lambda path, field: guidance.rectified(0.0),
}


def guided(name, path, y, w, model=None):
    """A rule of `RULES` on the exact field, or on another model."""
    model = model or (FIELD if path is LINEAR else field(path))
    return RULES[name](path, model)(model, y, jnp.array(NULL), w)


def call(field, x, t):
    """The first value of a field, stateful or not."""
    if isinstance(field, StatefulField):
        return field.call(x, t, field.start(x))[0]
    return field(x, t)
