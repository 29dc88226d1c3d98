"""Animated GIF, PNG and WebP: when their frames are shown, by the headers alone, and the frames by Pillow.

A frame of no duration is shown for 0.1 s, as browsers do.

Source: GIF89a; PNG, third edition (W3C 2025), section 11.3.5; WebP container specification (RFC 9649).
"""

import io
import itertools
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import BinaryIO

from PIL import Image

from jaxflow.data.film import Film

DEFAULT = Fraction(1, 10)
"""Seconds of a frame that states none."""
MOST_FRAMES = 2**20
"""In a file; ten hours."""


def animation(stream: BinaryIO) -> Film | None:
    """The frames of a GIF, PNG or WebP, one if it is a still image; None if it is something else.

    Raises:
        ValueError: it ends too early, or has more than a million frames.
    """
    head = stream.read(12)
    stream.seek(0)
    known = [name for name, (start, mark, _) in FORMATS.items() if head[start:].startswith(mark)]
    if not known:
        return None
    delays = list(itertools.islice(FORMATS[known[0]][2](stream), MOST_FRAMES + 1))
    if len(delays) > MOST_FRAMES:
        raise ValueError(f"it has more than {MOST_FRAMES:,} frames")
    *starts, end = itertools.accumulate((delay or DEFAULT for delay in delays), initial=Fraction(0))

    def frames(first: int) -> Iterator[tuple[int, Image.Image]]:
        del first  # each is drawn over the one before
        stream.seek(0)
        with Image.open(stream, formats=known) as picture:
            skipped = getattr(picture, "default_image", False)  # for viewers of still images only
            for number in range(len(starts)):
                picture.seek(number + skipped)
                yield number, picture

    return Film(tuple(starts), end, frames)


def _gif(stream: BinaryIO) -> Iterator[Fraction]:
    _skip_palette(stream, _read(stream, 13)[10])
    delay = 0
    while (mark := stream.read(1)) not in (b"", b";"):  # some have no mark at the end
        if mark == b"!":
            label, block = _read(stream, 1), _read(stream, _read(stream, 1)[0])
            if label == b"\xf9" and len(block) >= 3:
                delay = int.from_bytes(block[1:3], "little")
            if block:
                _skip_blocks(stream)
        elif mark == b",":
            _skip_palette(stream, _read(stream, 9)[8])
            _read(stream, 1)
            _skip_blocks(stream)
            yield Fraction(delay, 100)
            delay = 0


def _skip_palette(stream: BinaryIO, flags: int) -> None:
    if flags & 128:
        _read(stream, 3 * 2 ** (flags % 8 + 1))


def _skip_blocks(stream: BinaryIO) -> None:
    while size := _read(stream, 1)[0]:
        _read(stream, size)


def _png(stream: BinaryIO) -> Iterator[Fraction]:
    _read(stream, 8)
    kind, still = b"", True
    while kind != b"IEND":
        size, kind = struct.unpack(">I4s", _read(stream, 8))
        content = _read(stream, size) if kind == b"fcTL" and size <= 26 else b""
        stream.seek(size - len(content) + 4, io.SEEK_CUR)
        if len(content) == 26:
            still = False
            count, of = struct.unpack(">HH", content[20:24])
            yield Fraction(count, of or 100)
    if still:
        yield Fraction(0)


def _webp(stream: BinaryIO) -> Iterator[Fraction]:
    end = 8 + int.from_bytes(_read(stream, 12)[4:8], "little")
    if end > stream.seek(0, io.SEEK_END):
        raise ValueError("it ends too early")
    stream.seek(12)
    still = True
    while stream.tell() + 8 <= end:
        kind, size = struct.unpack("<4sI", _read(stream, 8))
        content = _read(stream, 16) if kind == b"ANMF" and size >= 16 else b""
        stream.seek(size + size % 2 - len(content), io.SEEK_CUR)
        if content:
            still = False
            yield Fraction(int.from_bytes(content[12:15], "little"), 1000)
    if still:
        yield Fraction(0)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends too early")
    return content


FORMATS: dict[str, tuple[int, bytes, Callable[[BinaryIO], Iterator[Fraction]]]] = {
    "GIF": (0, b"GIF8", _gif),
    "PNG": (0, b"\x89PNG\r\n\x1a\n", _png),
    "WEBP": (8, b"WEBP", _webp),
}
"""Where and by what bytes the format is told, and the durations of its frames in seconds."""
