"""One module per preset, with one function `experiment()` that returns it.

A file of one's own is a preset too: `experiment()`, with networks and paths of its own if it likes, and where
the data are no TFDS data set `dataset(split)`, which opens a split of them.
"""

import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple

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
        return Preset(import_module(f"experiments.presets.{name}").experiment())
    module = _from_file(Path(name))
    experiment, dataset = (getattr(module, each, None) for each in ("experiment", "dataset"))
    made = _called(name, experiment) if callable(experiment) else None
    if not isinstance(made, Experiment):
        raise ValueError(f"PRESET = {name!r}: it needs a function experiment() that returns an Experiment")
    return Preset(made, partial(_dataset, name, dataset) if callable(dataset) else None)


def _dataset(name: str, open_split: Callable[[str], Dataset], split: str) -> Dataset:
    made = _called(name, open_split, split)
    if not isinstance(made, Dataset):
        raise ValueError(f"PRESET = {name!r}: dataset({split!r}) gives {made!r}, not a jaxflow Dataset")
    return made


def _called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function gives; what it raises, in one line."""
    try:
        return function(*arguments)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{line.filename}, line {line.lineno}"
        raise ValueError(f"PRESET = {name!r}: {type(error).__name__}: {error} ({where})") from error


def _from_file(file: Path):
    if not file.is_file():
        raise FileNotFoundError(f"PRESET = {str(file)!r}: there is no such file")
    name = f"preset_{file.stem}"  # of its own, since a file may be named as a library is
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    _called(str(file), spec.loader.exec_module, module)
    return module
