"""The flow map of `mnist`, as `digits_map`: 26 minutes on one core, see docs/results.md.

python -m experiments.train mnist --out FIELD
python -m experiments.train mnist_map --distill FIELD --out DIR
"""

from experiments.presets import mnist
from experiments.presets.digits_map import distilled
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """The map with the field's own network, from its parameters on."""
    return distilled(mnist.experiment(), steps=1000, learning_rate=7e-4)
