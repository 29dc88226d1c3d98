"""Runs: opening, sampling, training and storing models."""

from jaxflow.runs.folder import load, load_autoencoder
from jaxflow.runs.model import Model

__all__ = ["Model", "load", "load_autoencoder"]
