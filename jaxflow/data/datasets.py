"""Opening a data set by name: images or clips with labels or captions at random access.

`folder` is a folder of images, `clips` one of clips; `digits`, `shapes`, `emoji` and `moving_shapes` prepare
themselves, and `moving_digits` moves the images of a data set of digits. Any other TFDS image data set with
labels is read from where it was prepared, as ArrayRecord files; nothing here opens a connection.
"""

import os

from jaxflow.data.clip_folder import open_clips
from jaxflow.data.dataset import Dataset
from jaxflow.data.folder import HOLD_OUT, open_folder
from jaxflow.data.moving_digits import open_moving_digits
from jaxflow.data.resized import resized
from jaxflow.data.shortened import shortened
from jaxflow.places import Place, place

DEFAULT_SIZE = 64
"""Side of the images that are resized."""
DEFAULT_FRAMES = 16
"""Of the clips of a folder."""
RESIZED = ("folder", "clips", "emoji")
"""Data sets whose images are resized."""
OWN_FILES = ("folder", "clips")
"""Data sets that are folders of a user's files."""
MOVING_DIGITS = "moving_digits"
"""With `/NAME` the images of that data set of digits move, otherwise those of `digits`."""


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
    frames: int | None = None,
    rate: float | int | None = None,
    hold_out: float | int = HOLD_OUT,
) -> Dataset:
    """Open the split `split` of the data set `name` in `data_directory(data_dir)`.

    Args:
        name: a TFDS name, `mnist`, or with a version `mnist:3.0.1`, or with a configuration; or `folder`,
            `clips`, `moving_digits` or `moving_digits/mnist`.
        split: a TFDS split, `train`, `test` or a slice such as `train[:90%]`.
        data_dir: folder of the prepared data sets; of the images for `folder`.
        image_size: side in pixels to which the images of a folder, or emoji, are resized; if None, 64.
        frames: of the clips of a folder, the middle ones, if None 16; of other clips the first, if None all.
        rate: frames per second at which those of a folder are taken; if None, one after the other.
        hold_out: share of a folder's images that is held out as `test`; 0 to train on all.

    Raises:
        FileNotFoundError: the data set is not there; the message says how to get it.
        OSError: it has to be generated first, and the folder cannot be written.
        ValueError: it is not a set of uint8 images of one size with class labels, not in ArrayRecord form, or
            damaged.
    """
    if name != "clips" and rate is not None:
        raise ValueError(f"rate = {rate}: applies only to `clips`, a folder of your own")
    if name in OWN_FILES:
        if data_dir is None:
            kind = "images" if name == "folder" else "clips"
            raise ValueError(f"data_dir is missing: name the folder of the {kind}, --data-dir FOLDER")
        where, size = data_directory(data_dir), image_size or DEFAULT_SIZE
        if name == "folder":
            return open_folder(where, split, size, hold_out)
        return open_clips(where, split, size, frames or DEFAULT_FRAMES, rate, hold_out)
    if image_size is not None and name not in RESIZED:
        raise ValueError(f"image_size = {image_size}: only the images of {', '.join(RESIZED)} are resized")
    if hold_out != HOLD_OUT:
        raise ValueError(f"hold_out = {hold_out}: applies only to a folder; {name!r} has its own splits")
    moving, _, digits = name.partition("/")
    if moving == MOVING_DIGITS:
        dataset = open_moving_digits(open_dataset(digits or "digits", split, data_dir), split)
    else:
        # tensorflow-datasets takes seconds to import, and is not needed for sampling or folders of images.
        from jaxflow.data.prepared import open_prepared

        dataset = open_prepared(name, split, data_directory(data_dir))
    if name in RESIZED:
        return resized(dataset, image_size or DEFAULT_SIZE)
    return dataset if frames is None else shortened(dataset, frames)
