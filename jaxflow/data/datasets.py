"""Opening a data set by name: images with labels or captions at random access.

`folder` is a folder of images; `digits`, `shapes` and `emoji` prepare themselves. Any other TFDS image data
set with labels is read from where it was prepared, as ArrayRecord files; nothing here opens a connection.
"""

import os

from jaxflow.data.dataset import Dataset
from jaxflow.data.folder import HOLD_OUT, open_folder
from jaxflow.data.resized import resized
from jaxflow.places import Place, place

DEFAULT_SIZE = 64
"""Side of the images that are resized."""
RESIZED = ("folder", "emoji")
"""Data sets whose images are resized."""


def data_directory(data_dir: str | os.PathLike | None = None) -> Place:
    """`data_dir`, else the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        ValueError: `data_dir` is empty or no path.
    """
    if data_dir is not None:
        return place(data_dir, "data_dir")
    return place(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR")


def open_dataset(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int | None = None,
    hold_out: float | int = HOLD_OUT,
) -> Dataset:
    """Open the split `split` of the data set `name` in `data_directory(data_dir)`.

    Args:
        name: a TFDS name, `mnist`, or with a version `mnist:3.0.1`, or with a configuration; or `folder`.
        split: a TFDS split, `train`, `test` or a slice such as `train[:90%]`.
        data_dir: folder of the prepared data sets; of the images for `folder`.
        image_size: side in pixels to which the images of a folder, or emoji, are resized; if None, 64.
        hold_out: share of a folder's images that is held out as `test`; 0 to train on all.

    Raises:
        FileNotFoundError: the data set is not there; the message says how to get it.
        OSError: it has to be generated first, and the folder cannot be written.
        ValueError: it is not a set of uint8 images of one size with class labels, not in ArrayRecord form, or
            damaged.
    """
    if name == "folder":
        if data_dir is None:
            raise ValueError("data_dir is missing: name the folder of the images, --data-dir IMAGES")
        return open_folder(data_directory(data_dir), split, image_size or DEFAULT_SIZE, hold_out)
    if image_size is not None and name not in RESIZED:
        raise ValueError(f"image_size = {image_size}: only the images of {' and '.join(RESIZED)} are resized")
    if hold_out != HOLD_OUT:
        raise ValueError(f"hold_out = {hold_out}: applies only to `folder`; {name!r} has its own splits")
    # tensorflow-datasets takes seconds to import, and is not needed for sampling or folders of images.
    from jaxflow.data.prepared import open_prepared

    dataset = open_prepared(name, split, data_directory(data_dir))
    return resized(dataset, image_size or DEFAULT_SIZE) if name in RESIZED else dataset
