"""One module per preset, with one function `experiment()` that returns it.

A file of your own is a preset too: `experiment()`, with your own networks and paths if you like, and, if the
data are not a TFDS data set, `dataset(split)`, which opens a split of them.
"""

import hashlib
import os
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
from jaxflow.places import place
from jaxflow.runs import schema
from jaxflow.runs.configuration import Autoencoding, Experiment, FineTuning


class Preset(NamedTuple):
    """What the module of a preset defines."""

    experiment: Experiment | Autoencoding | FineTuning
    dataset: Callable[[str], Dataset] | None = None
    """Opens a split by name, if the experiment's data set is not one of TFDS."""
    source: str = ""
    """Hash of the file."""

    @property
    def classes(self) -> tuple[type, ...]:
        """Its own classes, needed to read its runs."""
        return tuple(kind for kind in schema.classes_in(self.experiment) if kind not in schema.CLASSES)


def names() -> list[str]:
    """The presets that ship with the project."""
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> Preset:
    """A preset by its name, or by its file, whose code is executed.

    Raises:
        ValueError: there is no such preset, or the file does not define one.
        FileNotFoundError: there is no such file.
    """
    if not name.endswith(".py"):
        if name not in names():
            raise ValueError(
                f"PRESET = {name[:100]!r}: must be one of {', '.join(names())}, or NAME.py of your own"
            )
        return Preset(import_module(f"experiments.presets.{name}").experiment())
    file = Path(os.fspath(place(name, "PRESET")))
    module = _from_file(file)
    experiment, dataset = (getattr(module, each, None) for each in ("experiment", "dataset"))
    made = _called(name, experiment) if callable(experiment) else None
    if not isinstance(made, Experiment | Autoencoding | FineTuning):
        raise ValueError(f"PRESET = {name!r}: expected a function experiment() that returns an Experiment")
    opened = partial(_dataset, name, dataset) if callable(dataset) else None
    return Preset(made, opened, hashlib.sha256(file.read_bytes()).hexdigest())


def _dataset(name: str, open_split: Callable[[str], Dataset], split: str) -> Dataset:
    made = _called(name, open_split, split)
    if not isinstance(made, Dataset):
        raise ValueError(f"PRESET = {name!r}: dataset({split!r}) returns {made!r}, not a jaxflow Dataset")
    return made


def _called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of the user's function; an error in one line."""
    try:
        return function(*arguments)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{line.filename}, line {line.lineno}"
        raise ValueError(f"PRESET = {name!r}: {type(error).__name__}: {error} ({where})") from error


def _from_file(file: Path):
    if not file.is_file():
        raise FileNotFoundError(f"PRESET = {str(file)!r}: no such file")
    name = f"preset_{file.stem}"  # prefixed, since the file may share its name with a library
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    _called(str(file), spec.loader.exec_module, module)
    return module
