"""Runs: opening, sampling, training and storing models."""

from jaxflow.runs.edits import Edit, edit
from jaxflow.runs.loading import load, load_autoencoder
from jaxflow.runs.model import Model

__all__ = ["Edit", "Model", "edit", "load", "load_autoencoder"]
