"""The pictures with their names, as the TFDS data set `emoji`.

Left out are emoji that the font draws blank or side by side, and all but the first of equal pictures. `test`
are the held-out pairs of figure and skin tone, `train` all others. It prepares itself from a font of the
machine and the package `emoji`, without a network connection and without TensorFlow.

Source: Noto Emoji, SIL Open Font License 1.1; Unicode's names, from the package `emoji`.
"""

from functools import cached_property

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxflow import progress
from jaxflow.emoji import fonts
from jaxflow.emoji.names import all_names, held_out

SIDE = 128
"""Pixels; the pictures of a run are resized, see `image_size`."""


class Emoji(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set `emoji`, with the splits `train` and `test`."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding_format="png"),
            "caption": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="The pictures of a colour emoji font with their names.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("caption", "image"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str):
        test = held_out(name for name, _ in self._pictures)
        for i, (name, picture) in enumerate(self._pictures):
            if (name in test) == (split == "test"):
                image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                yield i, {"image": image, "caption": name}

    @cached_property
    def _pictures(self) -> list[tuple[str, np.ndarray]]:
        """The distinct pictures with their names."""
        font, seen, kept = fonts.Font(fonts.find()), set(), []
        for text, name in progress.over(list(all_names()), "draw emoji", unit="emoji"):
            picture = font.draw(text)
            if picture is not None and picture.tobytes() not in seen:
                seen.add(picture.tobytes())
                kept.append((name, picture))
        return kept
