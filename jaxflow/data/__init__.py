"""Data sets: opened by name, a folder of pictures, or the user's own arrays; read in batches through Grain.

Knows nothing of flows. Batch n is a pure function of (seed, n).
"""

from jaxflow.data.codecs import Captions, Classes, Codec, vocabulary_of
from jaxflow.data.dataset import Dataset

__all__ = ["Captions", "Classes", "Codec", "Dataset", "vocabulary_of"]
