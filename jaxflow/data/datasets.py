"""Opening a data set by name: images with labels or captions, read at random access.

`digits` and `shapes` prepare themselves, `folder` is a folder of pictures. Any other TFDS image data set
with labels is read from where it was prepared, as ArrayRecord files; nothing here opens a connection.
"""

import fcntl
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.data.dataset import Dataset
from jaxflow.data.prepared import Prepared

OWN = {"digits": ("jaxflow.data.digits", "Digits"), "shapes": ("jaxflow.shapes.builder", "Shapes")}
"""Data sets that ship with the package: module and builder."""
NAME = r"\w+(/[\w.-]+)?(:[\d.*]+)?"
"""TFDS names, with a configuration or a version."""


def data_directory(data_dir: str | os.PathLike | None = None) -> Path:
    """`data_dir`, else the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_dataset(
    name: str, split: str, data_dir: str | os.PathLike | None = None, *, image_size: int | None = None
) -> Dataset:
    """Open the split `split` of the data set `name` in `data_directory(data_dir)`.

    Args:
        name: a TFDS name, `mnist`, or with a version `mnist:3.0.1`, or with a configuration; or `folder`.
        split: a TFDS split, `train`, `test` or a slice such as `train[:90%]`.
        data_dir: folder of the prepared data sets; of the pictures for `folder`.
        image_size: side in pixels to which the pictures of a folder are brought.

    Raises:
        FileNotFoundError: the data set is not there; the message says how to get it.
        OSError: it cannot be written where it would prepare itself.
        ValueError: it is not a set of uint8 images of one size with class labels, not in ArrayRecord form, or
            damaged.
    """
    if name == "folder":
        from jaxflow.data.folder import open_folder

        if data_dir is None:
            raise ValueError("data_dir is missing: the folder of the pictures is needed, --data-dir PICTURES")
        return open_folder(Path(data_dir).expanduser(), split, 64 if image_size is None else image_size)
    if image_size is not None:
        raise ValueError(f"image_size = {image_size}: only the pictures of `folder` are resized")
    return _open_prepared(name, split, data_directory(data_dir))


def _open_prepared(name: str, split: str, directory: Path) -> Dataset:
    builder = _builder(name, directory)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"data set {name!r} in {directory} is {builder.info.file_format.value}, not array_record:"
            f" prepare it again: python -m jaxflow.data.prepare {name} --data-dir OTHER_DIRECTORY"
        )
    features = dict(builder.info.features.items())
    codec = _codec(name, features)
    image_shape = _image_shape(name, features)
    if codec is None or image_shape is None:
        raise ValueError(f"data set {name!r} has the features {sorted(features)}: image and label are needed")
    if split.split("[")[0] not in builder.info.splits:
        raise ValueError(f"data set {name!r} has no split {split!r}: it has {', '.join(builder.info.splits)}")
    source = Prepared(builder.as_data_source(split), f"data set {name!r} in {directory}")
    return Dataset(source, image_shape, codec)


def _builder(name: str, directory: Path) -> tfds.core.DatasetBuilder:
    if not re.fullmatch(NAME, name):
        raise ValueError(f"dataset = {name!r}: `folder` or a TFDS name is needed, as mnist or mnist:3.0.1")
    _prepare_own(name, directory)
    try:
        return read_only_builder.builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError:
        raise FileNotFoundError(
            f"data set {name!r} is not in {directory}: name its folder with --data-dir or TFDS_DATA_DIR, or"
            " download it once: pip install tensorflow-cpu && python -m jaxflow.data.prepare"
            f" {name} --data-dir {directory}"
        ) from None
    except Exception as error:  # whatever the readers of its notes stumble over
        raise ValueError(f"data set {name!r} in {directory} is damaged: {error}") from error


def _image_shape(name: str, features: dict[str, Any]) -> tuple[int, int, int] | None:
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        return None
    if None in image.shape:
        raise ValueError(f"data set {name!r} has images of several sizes {image.shape}: one size is needed")
    if image.np_dtype != np.uint8:
        raise ValueError(f"data set {name!r} has images of {np.dtype(image.np_dtype)}: uint8 is needed")
    return tuple(image.shape)


def _codec(name: str, features: dict[str, Any]) -> Codec | None:
    if name.split(":")[0] == "shapes":
        from jaxflow.shapes import captions

        return Captions(captions.WORDS, captions.LONGEST)
    label = features.get("label")
    return Classes(tuple(label.names)) if isinstance(label, tfds.features.ClassLabel) else None


def _prepare_own(name: str, directory: Path) -> None:
    if name not in OWN or _is_prepared(name, directory):
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / f"{name}.lock").open("w") as lock:  # of processes that start together one writes
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_prepared(name, directory):
                _write_own(name, directory)
    except OSError as error:
        raise OSError(
            f"data_dir = {directory}: {name!r} cannot be written there, {error.strerror or error}: name"
            " another folder"
        ) from error


def _is_prepared(name: str, directory: Path) -> bool:
    # A broken-off writing leaves no info.
    return any((directory / name).glob("*/dataset_info.json"))


def _write_own(name: str, directory: Path) -> None:
    module, builder = OWN[name]
    # What draws the images is imported once, when the files are written.
    make = getattr(import_module(module), builder)
    make(data_dir=directory, file_format="array_record").download_and_prepare()
