"""The flow map of `mnist`, as `digits_map`.

python -m experiments.train mnist --steps 1500 --out FIELD
python -m experiments.train mnist_map --distill FIELD --out DIR
"""

import dataclasses

from experiments.presets import mnist
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """By the Lagrangian identity, from a trained field on."""
    return dataclasses.replace(
        mnist.experiment(),
        objective="lagrangian",
        distill="",
        w_most=4.0,
        instants=0.25,
        steps=500,
        learning_rate=1e-3,
    )
