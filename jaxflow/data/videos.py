"""Videos, decoded by FFmpeg through the package PyAV, which is an extra: MP4, MOV, WebM, MKV, AVI and others.

The format is told by the content. Formats that name other files or addresses, such as playlists, are not
read, and no other file is opened.
"""

import io
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from PIL import Image

from jaxflow.data.film import Film

FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg"
"""FFmpeg's names of the formats that are read."""
SOUGHT = ("mov", "matroska")
"""Formats whose time stamps are those of the decoded frames, so that decoding can begin near the middle."""
MOST_FRAMES = 2**20
"""In a file; ten hours."""
BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"uuid", b"mfra")
"""Parts of an MP4 or MOV."""
WIDEST = 4
"""Of a pixel, relative to its height; other proportions are taken for square."""


def video(stream: BinaryIO) -> Film:
    """The frames of a video, without its sound.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: it ends too early, has no pictures, or some that are too large, or is no video at all.
    """
    import av

    _check_length(stream)
    stamps = list[int]()
    length, damaged = 0, False
    try:
        container = _open(stream)
    except av.error.FFmpegError:
        raise ValueError("it is no GIF, PNG, WebP or video") from None
    with container:
        pictures = _pictures(container)
        pixels, most = pictures.width * pictures.height, 2 * (Image.MAX_IMAGE_PIXELS or 2**62)
        if pixels > most:  # Pillow's limit
            raise ValueError(f"Image size ({pixels} pixels) exceeds limit of {most} pixels")
        unit, rate = pictures.time_base or Fraction(1, 1000), pictures.average_rate or Fraction(25)
        aspect = pictures.sample_aspect_ratio or Fraction(1)
        sought = container.format.name.startswith(SOUGHT)
        for packet in container.demux(pictures):
            if packet.size and not packet.is_discard:
                stamp = packet.dts if packet.pts is None else packet.pts
                stamps.append(round(len(stamps) / (rate * unit)) if stamp is None else stamp)
                length, damaged = packet.duration or length, packet.is_corrupt
            if len(stamps) > MOST_FRAMES:
                raise ValueError(f"it has more than {MOST_FRAMES:,} frames")
    if damaged:  # the last frame is not complete
        raise ValueError("it ends too early")
    stamps.sort()
    starts = tuple((stamp - stamps[0]) * unit for stamp in stamps)
    end = starts[-1] + (length * unit or 1 / rate) if starts else Fraction(0)

    def frames(first: int) -> Iterator[tuple[int, Image.Image]]:
        if sought and first:
            with _open(stream) as container:
                container.seek(stamps[first], stream=(pictures := _pictures(container)))
                for i, frame in enumerate(container.decode(pictures)):
                    number = len(stamps) if frame.pts is None else bisect_left(stamps, frame.pts)
                    if not i and number > first:  # beyond it
                        break
                    yield number, _picture(frame, aspect)
                else:
                    return
        with _open(stream) as container:
            for number, frame in enumerate(container.decode(_pictures(container))):
                yield number, _picture(frame, aspect)

    return Film(starts, end, frames)


def _open(stream: BinaryIO) -> Any:
    import av

    stream.seek(0)
    only = {"format_whitelist": FORMATS}
    return av.open(_Source(stream), container_options=only, io_open=_refuse, metadata_errors="replace")


class _Source:
    """A stream in which FFmpeg may seek positions that do not exist, without a traceback on the terminal."""

    def __init__(self, stream: BinaryIO):
        self._seek, self.read, self.tell = stream.seek, stream.read, stream.tell

    def seek(self, offset: int, whence: int) -> int:
        """The position, or -1."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise ValueError("it names another file")


def _pictures(container: Any) -> Any:
    """The stream of the pictures; covers of albums are none."""
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError("it has sound only" if container.streams.audio else "it has no pictures")
    pictures = max(streams, key=lambda one: one.frames)
    if pictures.codec_context is None:
        raise ValueError("its pictures are of an unknown codec")
    pictures.thread_count = 1  # many files are read at a time
    return pictures


def _picture(frame: Any, aspect: Fraction) -> Image.Image:
    """As a viewer would show it: with square pixels, and turned."""
    width = round(frame.width * aspect) if 1 / WIDEST <= aspect <= WIDEST else frame.width
    alpha = any(component.is_alpha for component in frame.format.components)
    picture = Image.fromarray(frame.to_ndarray(format="rgba" if alpha else "rgb24", width=width))
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _check_length(stream: BinaryIO) -> None:
    """A file must be as long as its outermost parts say: what is missing may be read as if it ended there."""
    length, claimed = stream.seek(0, io.SEEK_END), 0
    stream.seek(0)
    head = stream.read(4096)
    if head[:4] == b"RIFF":  # AVI; FFmpeg writes such a number where it cannot return to fill it in
        claimed = 8 + int.from_bytes(head[4:8], "little")
        claimed = 0 if claimed >= 2**32 else claimed
    elif head[:4] == b"\x1a\x45\xdf\xa3":  # Matroska and WebM
        claimed = _segment_end(head)
    else:
        claimed = _boxes_end(stream, length)
    if claimed > length:
        raise ValueError(f"it ends too early, after {length:,} of {claimed:,} bytes")


def _segment_end(head: bytes) -> int:
    start = head.find(b"\x18\x53\x80\x67") + 4
    if start < 4 or start == len(head) or not head[start]:
        return 0
    octets = 9 - head[start].bit_length()
    bits = 2 ** (7 * octets) - 1
    size = int.from_bytes(head[start : start + octets], "big") & bits
    return 0 if size == bits else start + octets + size  # all ones: unknown


def _boxes_end(stream: BinaryIO, length: int) -> int:
    end = 0
    for _ in range(MOST_FRAMES):
        stream.seek(end)
        head = stream.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if end >= length or head[4:8] not in BOXES or size < 8:
            break
        end += size
    return end
