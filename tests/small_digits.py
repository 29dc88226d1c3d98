"""The preset `digits` with a network of a few parameters, which compiles fast."""

import dataclasses

from experiments.presets import digits


def use(patch):
    """In the place of the preset, until `patch` is undone."""
    experiment = digits.experiment()
    small = dataclasses.replace(experiment, network=experiment.network.clone(width=16, depth=1, heads=2))
    patch.setattr(digits, "experiment", lambda: small)
