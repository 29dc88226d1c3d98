"""Text to clip: coloured shapes that move, from their captions; 42 minutes on two slow cores.

python -m experiments.train moving_shapes --out DIR
"""

import dataclasses

from experiments.presets import shapes
from jaxflow.runs.configuration import Experiment


def experiment() -> Experiment:
    """The U-Net of `shapes`, whose stem folds the frames of a clip into channels too.

    A clip shows its content in 16 frames, which is decided at higher noise levels than that of an image: half
    of the times are below 0.09.
    """
    images = shapes.experiment()
    return dataclasses.replace(
        images,
        dataset="moving_shapes",
        network=images.network.clone(tube=16),  # type: ignore[attr-defined]
        time_mean=-2.3,
        time_deviation=1.3,
        steps=2300,
    )
