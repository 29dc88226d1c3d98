"""The clips with their captions, as the TFDS data set `moving_shapes`.

Scenes 0, 1, 2, ... of each split, with one caption each: `train` and `test` have the same distribution and no
scene in common, and each scene of `held_out` shows a motion with a shape or a colour with which the others
never show it. It prepares itself, without a network connection and without TensorFlow.
"""

import numpy as np
import tensorflow_datasets as tfds

from jaxflow.moving_shapes.captions import caption
from jaxflow.moving_shapes.scenes import FRAMES, draw, scene
from jaxflow.shapes.scenes import SIDE

CLIPS = {"train": 16_000, "test": 1_000, "held_out": 1_000}
"""Clips in each split."""


class MovingShapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set `moving_shapes`, with the splits `train`, `test` and `held_out`."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(FRAMES, SIDE, SIDE, 3), dtype=np.uint8, encoding="zlib"),
            "caption": tfds.features.Text(),
            "index": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="One or two coloured shapes that move on a plain background, 16 frames of 32 x 32"
            " pixels, with captions; jaxflow.moving_shapes.scenes generates millions more from the same"
            " distribution.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("caption", "image"),
            license="MIT",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in CLIPS}

    def _generate_examples(self, split: str):
        for i in range(CLIPS[split]):
            this = scene(i, split)
            yield i, {"image": draw(this), "caption": caption(this, i), "index": i}
