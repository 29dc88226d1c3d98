"""Opening a data set by name: images with labels or captions, read at random access.

`digits` and `shapes` prepare themselves, `folder` is a folder of pictures. Any other TFDS image data set
with labels is read from where it was prepared, as ArrayRecord files; nothing here opens a connection.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from jaxflow.data.conditions import Captions, Classes, Condition
from jaxflow.data.dataset import Dataset

OWN = {"digits": ("jaxflow.data.digits", "Digits"), "shapes": ("jaxflow.data.shapes", "Shapes")}
"""Data sets that ship with the package: module and builder."""


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
        ValueError: it is not a set of images of one size with class labels, or not in ArrayRecord form.
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
    _prepare_own(name, directory)
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError:
        raise FileNotFoundError(
            f"data set {name!r} is not in {directory}: name its folder with --data-dir or TFDS_DATA_DIR, or"
            " download it once: pip install tensorflow-cpu && python -m jaxflow.data.prepare"
            f" {name} --data-dir {directory}"
        ) from None
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"data set {name!r} in {directory} is {builder.info.file_format.value}, not array_record:"
            f" prepare it again: python -m jaxflow.data.prepare {name} --data-dir OTHER_DIRECTORY"
        )
    features = dict(builder.info.features.items())
    image = features.get("image")
    condition = _condition(name, features)
    if not isinstance(image, tfds.features.Image) or condition is None:
        raise ValueError(f"data set {name!r} has the features {sorted(features)}: image and label are needed")
    if None in image.shape:
        raise ValueError(f"data set {name!r} has images of several sizes {image.shape}: one size is needed")
    if split.split("[")[0] not in builder.info.splits:
        raise ValueError(f"data set {name!r} has no split {split!r}: it has {', '.join(builder.info.splits)}")
    return Dataset(builder.as_data_source(split), tuple(image.shape), condition)


def _condition(name: str, features: dict[str, Any]) -> Condition | None:
    if name == "shapes":
        from jaxflow.data import scene_captions

        return Captions(scene_captions.WORDS, scene_captions.LONGEST)
    label = features.get("label")
    return Classes(tuple(label.names)) if isinstance(label, tfds.features.ClassLabel) else None


def _prepare_own(name: str, directory: Path) -> None:
    # What draws the images is imported once, when the files are written; a broken-off writing leaves no info.
    if name in OWN and not any((directory / name).glob("*/dataset_info.json")):
        module, builder = OWN[name]
        make = getattr(import_module(module), builder)
        make(data_dir=directory, file_format="array_record").download_and_prepare()
