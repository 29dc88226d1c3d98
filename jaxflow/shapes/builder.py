"""The scenes with their captions, as the TFDS data set `shapes`.

Scenes 0, 1, 2, ... of each split, with one caption each: `train` and `test` have the same distribution and no
scene in common, and each scene of `held_out` shows a pair of colour and shape that the others never show. It
prepares itself, without a network connection and without TensorFlow.
"""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxflow.shapes.captions import caption
from jaxflow.shapes.scenes import SIDE, draw, scene

SCENES = {"train": 50_000, "test": 2_000, "held_out": 1_000}
"""Scenes in each split."""


class Shapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set `shapes`, with the splits `train`, `test` and `held_out`."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding_format="png"),
            "caption": tfds.features.Text(),
            "index": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="One or two coloured shapes on a plain background, 32 x 32 pixels, with captions;"
            " jaxflow.shapes.scenes generates millions more from the same distribution.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("caption", "image"),
            license="MIT",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in SCENES}

    def _generate_examples(self, split: str):
        for i in range(SCENES[split]):
            this = scene(i, split)
            yield i, {"image": Image.fromarray(draw(this)), "caption": caption(this, i), "index": i}
