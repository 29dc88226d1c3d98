"""The flow map of `digits`: one call of the network, guided, in place of forty.

python -m experiments.train digits --out FIELD
python -m experiments.train digits_map --distill FIELD --out DIR
"""

import dataclasses

from experiments.presets import digits
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """By the Lagrangian identity, which differentiates in the length of the jump only, from the field on.

    The velocity itself is a start already, so that a quarter of the examples suffices for it.
    """
    return dataclasses.replace(
        digits.experiment(),
        objective="lagrangian",
        distill="",
        w_most=4.0,
        instants=0.25,
        steps=500,
        learning_rate=1e-3,
    )
