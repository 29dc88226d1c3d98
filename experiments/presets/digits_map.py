"""The flow map of `digits`: one call of the network, guided, in place of forty.

python -m experiments.train digits --out FIELD
python -m experiments.train digits_map --distill FIELD --out DIR
"""

import dataclasses
from typing import Any

from experiments.presets import digits
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """The map with the field's own network, from its parameters on."""
    return distilled(digits.experiment())


def distilled(field: Experiment, **options: Any) -> Experiment:
    """The map of a trained field, by the Lagrangian identity, which differentiates in the length of jumps.

    The velocity is a start already, so that a quarter of the examples suffices for it.
    """
    numbers = {"w_most": 4.0, "instants": 0.25, "steps": 500, "learning_rate": 1e-3} | options
    return dataclasses.replace(field, objective="lagrangian", distill="", **numbers)
