"""The flow map of `emoji`, as `digits_map`; not trained yet.

python -m experiments.train emoji --autoencoder FOLDER --out FIELD
python -m experiments.train emoji_map --autoencoder FOLDER --distill FIELD --out DIR
"""

from experiments.presets import emoji
from experiments.presets.digits_map import distilled
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """The map with the field's own network, from its parameters on."""
    return distilled(emoji.experiment(), w_most=6.0, learning_rate=5e-4)
