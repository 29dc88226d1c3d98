"""Networks: Flax modules (x, t, y, *, train) -> array of x's shape; and autoencoders of images and clips.

They are independent of the path and the prediction type. Conditioning takes two steps, chosen separately: an
encoder maps the condition to a vector, a sequence of tokens, or both; the network is modulated by the sum
of the vector and an embedding of t, and attends to the tokens.
"""

from jaxflow.nn.autoencoder_kl import AutoencoderKL
from jaxflow.nn.autoencoder_tiny import AutoencoderTiny
from jaxflow.nn.causal_autoencoder import CausalAutoencoder
from jaxflow.nn.changes import Change
from jaxflow.nn.classifier import Classifier, NoisyClassifier
from jaxflow.nn.conditioning import (
    ClassTable,
    CompositeEncoder,
    OptionalVector,
    TokenProjection,
    TokenSequence,
    VectorMLP,
)
from jaxflow.nn.discriminator import Discriminator
from jaxflow.nn.dit import DiT, published
from jaxflow.nn.jumps import Guidance, Jump, JumpEncoder
from jaxflow.nn.lab_unet import LabUNet
from jaxflow.nn.stable_unet import StableUNet
from jaxflow.nn.text import TextEncoder
from jaxflow.nn.unet import UNet, unet_32, unet_64, unet_256

__all__ = [
    "AutoencoderKL",
    "AutoencoderTiny",
    "CausalAutoencoder",
    "Change",
    "ClassTable",
    "Classifier",
    "CompositeEncoder",
    "DiT",
    "Discriminator",
    "Guidance",
    "Jump",
    "JumpEncoder",
    "LabUNet",
    "NoisyClassifier",
    "OptionalVector",
    "StableUNet",
    "TextEncoder",
    "TokenProjection",
    "TokenSequence",
    "UNet",
    "VectorMLP",
    "published",
    "unet_32",
    "unet_64",
    "unet_256",
]
