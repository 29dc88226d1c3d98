"""Check that a run folder and a folder of images are not nested."""

import os
from pathlib import PurePosixPath

from jaxflow.data.names import shown


def check_apart(out: str | os.PathLike, data_dir: str | os.PathLike) -> None:
    """Reject nested folders of a run and its images: the run would read its own files as images.

    Links are resolved.

    Raises:
        ValueError: one is the other, or inside it.
    """
    if _inside(out, data_dir) or _inside(data_dir, out):
        raise ValueError(
            f"out = {shown(out)} and data_dir = {shown(data_dir)} overlap: the run"
            " would read its own files as images: choose another --out"
        )


def _inside(inner: str | os.PathLike, outer: str | os.PathLike) -> bool:
    inner, outer = os.fspath(inner), os.fspath(outer)
    if "://" in inner or "://" in outer:  # in buckets there are no links
        return PurePosixPath(outer) in (PurePosixPath(inner), *PurePosixPath(inner).parents)
    inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    above = [inner]
    while (parent := os.path.dirname(above[-1])) != above[-1]:
        above.append(parent)
    return any(_same(folder, outer) for folder in above)


def _same(one: str, other: str) -> bool:
    """Also on file systems that ignore case, or are mounted twice."""
    return one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other))
