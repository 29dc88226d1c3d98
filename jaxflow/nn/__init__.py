"""Networks: Flax modules (x, t, y, *, train) -> array of x's shape.

They know no path and no prediction type. Time and condition enter as one vector per example,
the sum of an embedding of t and an encoding of y, and each block is modulated by it.
"""

from jaxflow.nn.classifier import Classifier, NoisyClassifier
from jaxflow.nn.conditioning import ClassTable
from jaxflow.nn.dit import DiT
from jaxflow.nn.unet import UNet

__all__ = ["ClassTable", "Classifier", "DiT", "NoisyClassifier", "UNet"]
