"""One module per preset, with one function `experiment()` that returns it.

A file of one's own is a preset too: `experiment()`, with networks and paths of its own if it likes, and where
the data are no TFDS data set `dataset(split)`, which opens a split of them.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

from jaxflow.data.dataset import Dataset
from jaxflow.runs import schema
from jaxflow.runs.configuration import Experiment


class Preset(NamedTuple):
    """What a module of a preset has."""

    experiment: Experiment
    dataset: Callable[[str], Dataset] | None = None
    """A split by its name, where the experiment's data set is no name of TFDS."""

    @property
    def classes(self) -> tuple[type, ...]:
        """Classes of its own, without which a run of it cannot be read."""
        return tuple(kind for kind in schema.classes_in(self.experiment) if kind not in schema.CLASSES)


def names() -> list[str]:
    """Those that ship with the project."""
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> Preset:
    """A preset by its name, or by its file, whose code is run.

    Raises:
        ValueError: there is no such preset, or the file is none.
        FileNotFoundError: there is no such file.
    """
    if not name.endswith(".py"):
        if name not in names():
            raise ValueError(f"PRESET = {name!r}: there are {', '.join(names())}, or NAME.py of your own")
        module = import_module(f"experiments.presets.{name}")
    else:
        module = _from_file(Path(name))
    experiment = getattr(module, "experiment", None)
    if not callable(experiment) or not isinstance(made := experiment(), Experiment):
        raise ValueError(f"PRESET = {name!r}: it needs a function experiment() that returns an Experiment")
    return Preset(made, getattr(module, "dataset", None))


def _from_file(file: Path):
    if not file.is_file():
        raise FileNotFoundError(f"PRESET = {str(file)!r}: there is no such file")
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
