"""The flow map of `emoji`, as `digits_map`.

python -m experiments.train emoji --autoencoder FOLDER --out FIELD
python -m experiments.train emoji_map --autoencoder FOLDER --distill FIELD --out DIR
"""

import dataclasses

from experiments.presets import emoji
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """By the Lagrangian identity, from a trained field on."""
    return dataclasses.replace(
        emoji.experiment(),
        objective="lagrangian",
        distill="",
        w_most=6.0,
        instants=0.25,
        steps=500,
        learning_rate=5e-4,
    )
