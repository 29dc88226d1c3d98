"""Opening a data set by name: labelled images, prepared by tensorflow-datasets as ArrayRecord files.

`digits` prepares itself. Any other TFDS image data set with labels is read from where it was
prepared; nothing here opens a connection.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder


class Dataset(NamedTuple):
    """Labelled images with random access."""

    source: Any
    """A TFDS data source of {"image": uint8 (h, w, c), "label": int}, decoded when asked for."""
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]


def data_directory(data_dir: str | os.PathLike | None = None) -> Path:
    """`data_dir`, else the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_dataset(name: str, split: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Open the split `split` of the data set `name` in `data_directory(data_dir)`.

    Args:
        name: a TFDS name, `mnist`, or with a version `mnist:3.0.1`, or with a configuration.
        split: a TFDS split, `train`, `test` or a slice such as `train[:90%]`.
        data_dir: folder of the prepared data sets.

    Raises:
        FileNotFoundError: the data set is not there; the message says how to get it.
        ValueError: it is not a set of images of one size with class labels, or not in ArrayRecord form.
    """
    directory = data_directory(data_dir)
    if name == "digits":
        _prepare_digits(directory)
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
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(f"data set {name!r} has the features {sorted(features)}: image and label are needed")
    if None in image.shape:
        raise ValueError(f"data set {name!r} has images of several sizes {image.shape}: one size is needed")
    if split.split("[")[0] not in builder.info.splits:
        raise ValueError(f"data set {name!r} has no split {split!r}: it has {', '.join(builder.info.splits)}")
    return Dataset(builder.as_data_source(split), tuple(image.shape), tuple(label.names))


def _prepare_digits(directory: Path) -> None:
    # scikit-learn is imported once, when the files are written.
    if not (directory / "digits").is_dir():
        from jaxflow.data.digits import Digits

        Digits(data_dir=directory, file_format="array_record").download_and_prepare()
