"""Data sets, opened by name, from a folder of images or from arrays, and read in batches through Grain.

Nothing here depends on flows. Batch n is a pure function of (seed, n).
"""

from jaxflow.data.codecs import Captions, Classes, Codec, vocabulary_of
from jaxflow.data.dataset import Dataset

__all__ = ["Captions", "Classes", "Codec", "Dataset", "vocabulary_of"]
