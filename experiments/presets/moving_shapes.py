"""Text to clip: coloured shapes that move, from their captions; 73 minutes on one core.

python -m experiments.train moving_shapes --out DIR
"""

import dataclasses

from experiments.presets import shapes
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """The U-Net of `shapes`, whose stem folds the frames of a clip into channels too.

    Its 64 channels cannot carry the 192 numbers of a patch: a refinement sees them once more. A clip shows
    its content in 16 frames, which is decided at higher noise levels than that of an image: half of the times
    are below 0.17, a sixth above 0.35.
    """
    images = shapes.experiment()
    return dataclasses.replace(
        images,
        dataset="moving_shapes",
        network=images.network.clone(tube=16, refinement=16),  # type: ignore[attr-defined]
        time_mean=-1.6,
        time_deviation=1.0,
        steps=5000,
    )
