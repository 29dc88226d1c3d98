"""TFDS data sets prepared as ArrayRecord files, and those of the package, which prepare themselves."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from tensorflow_datasets.core import read_only_builder

from jaxflow.data.codecs import Captions, Classes, Codec, vocabulary_of
from jaxflow.data.dataset import Dataset
from jaxflow.data.names import shown
from jaxflow.places import Place

OWN = {
    "digits": ("jaxflow.data.digits", "Digits"),
    "shapes": ("jaxflow.shapes.builder", "Shapes"),
    "emoji": ("jaxflow.emoji.builder", "Emoji"),
    "moving_shapes": ("jaxflow.moving_shapes.builder", "MovingShapes"),
}
"""Data sets that ship with the package: module and builder."""
NAME = r"\w+(/[\w.-]+)?(:[\d.*]+)?"
"""TFDS names, with a configuration or a version."""


class Prepared:
    """Random access to the examples in prepared files, their texts as str.

    Raises:
        OSError: an example cannot be read or decoded; the message says which, and what to do.
    """

    def __init__(self, source: Any, name: str):
        self._source, self._name = source, name

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> dict[str, Any]:
        try:
            return _with_texts(self._source.__getitems__([position])[0])
        except Exception as error:  # readers and decoders raise all kinds of exceptions, RuntimeError mostly
            raise OSError(
                f"example {position} of {self._name} cannot be read, {error}: prepare it again in another"
                " folder and name that with --data-dir"
            ) from error

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        try:
            return [_with_texts(example) for example in self._source.__getitems__(positions)]
        except Exception:
            return [self[position] for position in positions]


def open_prepared(name: str, split: str, directory: Place) -> Dataset:
    """Open a split of a TFDS data set; the arguments and errors are those of `datasets.open_dataset`."""
    if not isinstance(directory, Path):
        raise ValueError(
            f"data_dir = {shown(directory)}: {name!r} is read from a local folder: copy it to this machine"
        )
    builder = _builder(name, directory)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"data set {name!r} in {directory} is {builder.info.file_format.value}, not array_record:"
            f" prepare it again: python -m jaxflow.data.prepare {name} --data-dir OTHER_DIRECTORY"
        )
    features = dict(builder.info.features.items())
    codec = _codec(name, builder)
    image_shape = _image_shape(name, features)
    if codec is None or image_shape is None:
        raise ValueError(f"data set {name!r} has the features {sorted(features)}: expected image and label")
    if split.split("[")[0] not in builder.info.splits:
        raise ValueError(f"data set {name!r} has no split {split!r}: it has {', '.join(builder.info.splits)}")
    source = Prepared(builder.as_data_source(split), f"data set {name!r} in {directory}")
    identity = repr((builder.info.full_name, split, len(source), image_shape, codec))
    return Dataset(source, image_shape, codec, identity=hashlib.sha256(identity.encode()).hexdigest())


def _with_texts(example: dict[str, Any]) -> dict[str, Any]:
    """Decode the strings, which TFDS stores as bytes."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in example.items()}


def _builder(name: str, directory: Path) -> tfds.core.DatasetBuilder:
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"dataset = '{shown(name)}': expected `folder` or a TFDS name, as mnist or mnist:3.0.1"
        )
    _prepare_own(name, directory)
    try:
        return read_only_builder.builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError:
        raise FileNotFoundError(
            f"data set {name!r} is not in {directory}: name its folder with --data-dir or TFDS_DATA_DIR, or"
            " download it once: pip install tensorflow-cpu && python -m jaxflow.data.prepare"
            f" {name} --data-dir {directory}"
        ) from None
    except Exception as error:  # whatever fails in reading its metadata
        raise ValueError(f"data set {name!r} in {directory} is damaged: {error}") from error


def _image_shape(name: str, features: dict[str, Any]) -> tuple[int, ...] | None:
    image: Any = features.get("image")
    is_clip = type(image) is tfds.features.Tensor and len(image.shape) == 4
    if not isinstance(image, tfds.features.Image) and not is_clip:
        return None
    if None in image.shape:
        raise ValueError(f"data set {name!r} has images of several sizes {image.shape}: expected one size")
    if image.np_dtype != np.uint8:
        raise ValueError(f"data set {name!r} has images of {np.dtype(image.np_dtype)}: expected uint8")
    return tuple(image.shape)


def _codec(name: str, builder: tfds.core.DatasetBuilder) -> Codec | None:
    own = name.split(":")[0]
    if own in ("shapes", "moving_shapes"):
        captions = import_module(f"jaxflow.{own}.captions")
        return Captions(captions.WORDS, captions.LONGEST)
    if own == "emoji":
        undecoded = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
        return vocabulary_of(example["caption"].decode() for example in undecoded)
    label = dict(builder.info.features.items()).get("label")
    return Classes(tuple(label.names)) if isinstance(label, tfds.features.ClassLabel) else None


def _prepare_own(name: str, directory: Path) -> None:
    if name not in OWN or _is_prepared(name, directory):
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f"{name}.lock"):  # of several processes that start together, one writes
            if not _is_prepared(name, directory):
                _write_own(name, directory)
    except ImportError as error:
        raise OSError(
            f"data set {name!r} needs {error.name}, which is not installed: pip install 'jaxflow[scripts]'"
        ) from None
    except OSError as error:
        if error.errno is None:  # not of the file system: the message says what is missing
            raise
        raise OSError(
            f"data_dir = {directory}: {name!r} cannot be written there, {error.strerror or error}: name"
            " another folder"
        ) from error


def _is_prepared(name: str, directory: Path) -> bool:
    # The info is written last.
    return any((directory / name).glob("*/dataset_info.json"))


def _write_own(name: str, directory: Path) -> None:
    module, builder = OWN[name]
    # What generates the images is imported only where the files are written.
    make = getattr(import_module(module), builder)
    make(data_dir=directory, file_format="array_record").download_and_prepare()
