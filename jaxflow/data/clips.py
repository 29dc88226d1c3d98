"""A video or an animated image as an array of a fixed number of frames.

GIF, animated PNG and WebP are decoded by Pillow, videos by PyAV (`videos`), told apart by their content. Each
frame is decoded as a picture is (`pictures`): on white, center-cropped and resized.

Of a clip that has more frames than wanted the middle is taken: of n frames those from (n - frames) // 2 on.
With a rate these are the n instants 0, 1 / rate, 2 / rate, ... at which the clip is still shown, and the
frame of an instant is the one that a viewer sees then. Only what is needed is decoded, one frame at a time.
"""

import math
from bisect import bisect_right
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from jaxflow.data import pictures
from jaxflow.data.animations import animation
from jaxflow.data.film import Film
from jaxflow.data.names import shown
from jaxflow.data.pictures import MOST_SHOWN, fitted, to_rgb
from jaxflow.data.videos import video
from jaxflow.places import Place

SLACK = Fraction(1, 1000)
"""Seconds by which a frame may come too late for an instant: many formats round times to milliseconds."""
MOST_RATE = 1000
"""Frames per second."""
MOST_PIXELS = 2**32
"""Of the frames decoded from a file, those before the first one wanted included; a minute."""


class TooShortError(ValueError):
    """The clip has fewer frames than wanted."""


def read_clip(
    file: Place, frames: int, height: int, width: int, rate: float | int | None = None
) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
    """Decode the middle of a clip, and say what was changed for it.

    Args:
        file: a GIF, PNG, WebP, MP4, MOV, WebM, MKV, AVI or another video.
        frames: number of frames wanted, at least 1.
        height: of a frame in pixels.
        width: of a frame in pixels.
        rate: frames per second, which may repeat or leave out some; if None, consecutive frames, however long
            each is shown.

    Raises:
        ValueError: the clip has fewer frames, is a still image, or cannot be decoded; the message names it.
        OSError: it is a video, and the extra that decodes videos is not installed.
    """
    check_rate(rate)
    if frames < 1:
        raise ValueError(f"frames = {frames}: must be at least 1")
    name = shown(file, MOST_SHOWN)
    try:
        with file.open("rb") as stream:
            film = _opened(stream)
            wanted = _wanted(film, frames, rate)
            clip, small = _decoded(film, wanted, height, width)
    except TooShortError as error:
        raise TooShortError(f"clip {name} {error}") from None
    except ImportError as error:
        raise OSError(
            f"clip {name}: videos need {error.name}, an extra: pip install 'jaxflow[video]'"
        ) from None
    except Exception as error:  # decoders raise all kinds of exceptions
        damaged = "it is damaged" if isinstance(error, UnidentifiedImageError) else None
        reason = shown(damaged or getattr(error, "strerror", None) or error, MOST_SHOWN)
        raise ValueError(f"clip {name} cannot be read, {reason}: remove it or save it again") from error
    notes = {
        f"smaller than {height} x {width} and enlarged": small,
        f"longer than {frames} frames, of which the middle is taken": _count(film, rate) > frames,
        f"of fewer than {rate} frames per second, some repeated": len(set(wanted)) < frames,
    }
    return clip, tuple(note for note, holds in notes.items() if holds)


def check_rate(rate: float | int | None) -> None:
    """Whether it is a number of frames per second, or None.

    Raises:
        ValueError: it is not.
    """
    if rate is not None and not 0 < rate <= MOST_RATE:
        raise ValueError(f"rate = {rate}: must be above 0 and at most {MOST_RATE} frames per second")


def _opened(stream: BinaryIO) -> Film:
    film = animation(stream)
    if film is None:
        stream.seek(0)
        try:
            with Image.open(stream, formats=pictures.FORMATS):
                raise ValueError("it is a still image, not a clip")
        except UnidentifiedImageError:
            film = video(stream)
    if len(film.starts) < 2:
        raise ValueError("it is a still image, not a clip" if film.starts else "it has no frames")
    return film


def _count(film: Film, rate: float | int | None) -> int:
    """How many frames can be had."""
    return len(film.starts) if rate is None else max(1, math.ceil((film.end - SLACK) * Fraction(rate)))


def _wanted(film: Film, frames: int, rate: float | int | None) -> list[int]:
    """The numbers of the frames to take, in order."""
    count = _count(film, rate)
    if count < frames:
        has, remedy = f"has {count} frames", "lower --frames, or repeat some by --rate"
        if rate is not None:
            has = f"lasts {float(film.end):.3g} s, which at rate = {rate} is {count} frames"
            remedy = "lower --frames or raise --rate"
        raise TooShortError(f"{has}, fewer than frames = {frames}: {remedy}")
    first = (count - frames) // 2
    taken = range(first, first + frames)
    if rate is None:
        return list(taken)
    return [bisect_right(film.starts, k / Fraction(rate) + SLACK) - 1 for k in taken]


def _decoded(
    film: Film, wanted: list[int], height: int, width: int
) -> tuple[UInt8[np.ndarray, "f h w 3"], bool]:
    """The frames, and whether they were smaller; in place of one that the decoder skips, the next."""
    clip = np.empty((len(wanted), height, width, 3), np.uint8)
    done, seen, size = 0, 0, None
    for number, picture in film.frames(wanted[0]):
        size = size or picture.size
        if picture.size != size:
            raise ValueError(f"its frames change from {size} to {picture.size} pixels")
        seen += size[0] * size[1]
        if seen > MOST_PIXELS:
            raise ValueError(f"its middle comes after more than {MOST_PIXELS:,} pixels, shorten it")
        if number >= wanted[done]:
            image = np.asarray(fitted(to_rgb(picture), height, width))
            while number >= wanted[done]:
                clip[done] = image
                done += 1
                if done == len(wanted):
                    return clip, size[0] < width or size[1] < height
    raise ValueError(f"frame {wanted[done]} of {len(film.starts)} is missing")
