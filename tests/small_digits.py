"""The preset `digits` with a tiny network, which compiles fast."""

import dataclasses

from experiments.presets import digits


def use(patch):
    """Replace the preset until `patch` is undone."""
    experiment = digits.experiment()
    small = dataclasses.replace(experiment, network=experiment.network.clone(width=16, depth=1, heads=2))
    patch.setattr(digits, "experiment", lambda: small)
