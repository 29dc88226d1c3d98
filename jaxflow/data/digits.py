"""The handwritten digits that ship with scikit-learn, as a TFDS data set.

1,797 images of 8 x 8 pixels with 17 grey levels, written by 43 people; every fifth image is
held out as the split `test`. Prepares itself from the installed package, without a network.

Source: Alpaydin and Kaynak, UCI Machine Learning Repository (1998), optdigits, CC BY 4.0.
"""

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image


class Digits(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set `digits`, with the splits `train` (1,438) and `test` (359)."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 pixels from scikit-learn.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            license="CC BY 4.0",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            "train": self._generate_examples(held_out=False),
            "test": self._generate_examples(held_out=True),
        }

    def _generate_examples(self, held_out: bool):
        digits = sklearn.datasets.load_digits()
        # 0..16 to 0..255; PIL images, since TFDS writes arrays through TensorFlow.
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for i, (image, label) in enumerate(zip(images, digits.target, strict=True)):
            if (i % 5 == 4) == held_out:
                yield i, {"image": Image.fromarray(image), "label": int(label)}
