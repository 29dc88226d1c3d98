"""jaxflow: guided flow and diffusion image generators in JAX.

A vector field is a plain function, guidance turns fields into fields, a sampler
integrates a field. Start reading at `paths`, `guidance` and `sampling`.

    model = jaxflow.load("runs/digits")
    images = model.sample(0, [3, 3, 7], w=2.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxflow import adaptive as adaptive
    from jaxflow import autoencoding as autoencoding
    from jaxflow import couplings as couplings
    from jaxflow import data as data
    from jaxflow import devices as devices
    from jaxflow import editing as editing
    from jaxflow import evaluation as evaluation
    from jaxflow import fields as fields
    from jaxflow import flow_maps as flow_maps
    from jaxflow import guidance as guidance
    from jaxflow import likelihood as likelihood
    from jaxflow import losses as losses
    from jaxflow import map_losses as map_losses
    from jaxflow import mixtures as mixtures
    from jaxflow import nn as nn
    from jaxflow import paths as paths
    from jaxflow import per_example as per_example
    from jaxflow import predictions as predictions
    from jaxflow import pretrained as pretrained
    from jaxflow import ranges as ranges
    from jaxflow import runs as runs
    from jaxflow import sampling as sampling
    from jaxflow import shapes as shapes
    from jaxflow import solvers as solvers
    from jaxflow import spaces as spaces
    from jaxflow import sweeps as sweeps
    from jaxflow import tilting as tilting
    from jaxflow import times as times
    from jaxflow import training as training
    from jaxflow import typing as typing
    from jaxflow.runs import Model as Model
    from jaxflow.runs import load as load
    from jaxflow.runs import load_autoencoder as load_autoencoder

MODULES = (
    *(
        "adaptive",
        "autoencoding",
        "couplings",
        "data",
        "devices",
        "editing",
        "evaluation",
        "fields",
        "flow_maps",
    ),
    *("guidance", "likelihood", "losses", "map_losses", "mixtures", "nn", "paths", "per_example"),
    *("predictions", "pretrained", "ranges", "runs", "sampling", "shapes", "solvers", "spaces"),
    *("sweeps", "tilting", "times", "training", "typing"),
)
FROM_RUNS = ("Model", "load", "load_autoencoder")

__all__ = [*FROM_RUNS, *MODULES]


def __getattr__(name: str):
    # Lazy, so that `import jaxflow` loads neither optimisers nor data libraries.
    if name in MODULES:
        return import_module(f"jaxflow.{name}")
    if name in FROM_RUNS:
        return getattr(import_module("jaxflow.runs"), name)
    raise AttributeError(f"module 'jaxflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
