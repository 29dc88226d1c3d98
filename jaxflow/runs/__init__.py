"""Runs: what opens, samples, trains and stores a model."""

from jaxflow.runs.folder import load
from jaxflow.runs.model import Model

__all__ = ["Model", "load"]
