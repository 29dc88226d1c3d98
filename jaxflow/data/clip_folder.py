"""Your own clips as a data set: a folder of videos or animations, with classes or captions as in `folder`."""

import math
from functools import partial

from jaxflow.data.clips import check_rate, read_clip
from jaxflow.data.dataset import Dataset
from jaxflow.data.folder import HOLD_OUT, Kind, open_files
from jaxflow.places import Place

VIDEOS = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
SUFFIXES = tuple(sorted((".apng", ".gif", ".png", ".webp", *VIDEOS)))
"""Files that are clips, in lower or upper case."""
MOST_BYTES = 2**28
"""Of a clip once decoded."""


def open_clips(
    directory: Place,
    split: str,
    size: int,
    frames: int,
    rate: float | int | None = None,
    hold_out: float | int = HOLD_OUT,
) -> Dataset:
    """Read the middle of every clip of a split once; they are kept if together they are small.

    Args:
        directory: the folder.
        split: `train` or `test`.
        size: side of a frame in pixels.
        frames: number of frames of each clip.
        rate: frames per second; if None, consecutive frames.
        hold_out: share of the clips in `test`, at least 0 and below 1; 0 to train on all.

    Raises:
        OSError: there is no such folder, or no clip in it, or it cannot be read, or it has videos and their
            extra is not installed.
        ValueError: a clip is too short, or as for `open_folder`; the message names it.
    """
    check_rate(rate)
    shape = (frames, size, size, 3)
    if min(shape) < 1 or math.prod(shape) > MOST_BYTES:
        raise ValueError(
            f"frames = {frames}, image_size = {size}: must be at least 1, and a clip of {frames} x {size} x"
            f" {size} x 3 bytes no more than {MOST_BYTES / 2**20:.0f} MiB"
        )
    read = partial(read_clip, frames=frames, height=size, width=size, rate=rate)
    return open_files(directory, split, hold_out, Kind("clip", "clips", SUFFIXES, shape, read, (rate,)))
