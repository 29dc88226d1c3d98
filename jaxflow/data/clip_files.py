"""Write a clip as a file that viewers play: GIF, WebP, PNG or MP4.

WebP and PNG are exact, and so is a GIF of at most 256 colours. `read_clip` gives back the frames, with the
rate as without: equal ones are not merged.

Source: GIF89a; WebP container specification (RFC 9649).
"""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image

from jaxflow.places import Place

COLOURS = 256
"""Of a GIF."""
LEAST_RATE, MOST_RATE = 0.1, 100
"""Frames per second: the unit of a GIF is 10 ms, in 16 bits."""
QUALITY = "18"
"""Constant rate factor of H.264, of 0 to 51: visually lossless."""


def write_clip(file: Place, clip: UInt8[np.ndarray, "f h w c"], rate: float | int) -> None:
    """Write a clip in the format of the file's suffix, which plays again and again.

    Args:
        file: .gif, .webp, .png or .mp4.
        clip: frames in grey (c = 1) or RGB (c = 3).
        rate: frames per second, from 0.1 to 100.

    Raises:
        ValueError: the suffix, the shape or the rate is not one of these.
        OSError: the file cannot be written, or it is a video and the extra for videos is not installed.
    """
    file.write_bytes(encoded(clip, rate, file.suffix))


def encoded(clip: UInt8[np.ndarray, "f h w c"], rate: float | int, suffix: str) -> bytes:
    """The content of such a file; the arguments and errors are those of `write_clip`."""
    if (encode := FORMATS.get(suffix.lower())) is None:
        raise ValueError(f"suffix {suffix!r}: a clip is written as one of {' '.join(FORMATS)}")
    if clip.shape[3] not in (1, 3) or not clip.size:
        raise ValueError(f"clip has the shape {clip.shape}: expected (f, h, w, 1) or (f, h, w, 3)")
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError(f"rate = {rate}: must be from {LEAST_RATE} to {MOST_RATE} frames per second")
    return encode(np.broadcast_to(clip, (*clip.shape[:3], 3)), Fraction(rate))


def _durations(frames: int, rate: Fraction, unit: int) -> list[int]:
    """Of each frame, in 1 / unit seconds; each begins at its time rounded down."""
    starts = [int(i * unit / rate) for i in range(frames + 1)]
    return np.diff(starts).tolist()


def _gif(clip: np.ndarray, rate: Fraction) -> bytes:
    indices, palette = _indexed(clip)
    pictures = [Image.fromarray(frame, "P") for frame in indices]
    for picture in pictures:
        picture.putpalette(palette)
    header, _ = GifImagePlugin.getheader(pictures[0], info={"loop": 0})
    blocks = [
        block
        for picture, duration in zip(pictures, _durations(len(clip), rate, 100), strict=True)
        for block in GifImagePlugin.getdata(picture, duration=10 * duration)
    ]
    return b"".join([*header, *blocks, b";"])  # Pillow's `save` would merge equal frames


def _indexed(clip: np.ndarray) -> tuple[np.ndarray, bytes]:
    """One palette for all frames, exact if it can be."""
    codes = clip.astype(np.uint32) @ np.array([2**16, 2**8, 1], np.uint32)
    colours, indices = np.unique(codes, return_inverse=True)
    if len(colours) <= COLOURS:
        palette = (colours[:, None] >> np.array([16, 8, 0], np.uint32)).astype(np.uint8)
        return indices.reshape(codes.shape).astype(np.uint8), palette.tobytes()
    tall = Image.fromarray(clip.reshape(-1, *clip.shape[2:])).quantize(COLOURS)
    return np.asarray(tall).reshape(codes.shape), bytes(tall.getpalette() or [])


def _webp(clip: np.ndarray, rate: Fraction) -> bytes:
    frames, height, width, _ = clip.shape
    area = _24_bits(width - 1) + _24_bits(height - 1)
    chunks = [
        _chunk(b"VP8X", b"\x02\0\0\0" + area),  # animated
        _chunk(b"ANIM", b"\xff\xff\xff\xff\0\0"),  # white behind; without end
    ]
    for frame, duration in zip(clip, _durations(frames, rate, 1000), strict=True):
        still = io.BytesIO()
        Image.fromarray(frame).save(still, "WEBP", lossless=True)
        head = bytes(6) + area + _24_bits(duration) + b"\x02"  # at the corner; not blended
        chunks.append(_chunk(b"ANMF", head + still.getvalue()[12:]))  # without the file's header
    return _chunk(b"RIFF", b"WEBP" + b"".join(chunks))  # Pillow's `save` would merge equal frames


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _24_bits(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _png(clip: np.ndarray, rate: Fraction) -> bytes:
    first, *others = map(Image.fromarray, clip)
    blend = [i % 2 for i in range(len(clip))]  # the same for opaque frames; equal ones of one kind are merged
    stream = io.BytesIO()
    durations = _durations(len(clip), rate, 1000)
    first.save(stream, "PNG", save_all=True, append_images=others, duration=durations, blend=blend)
    return stream.getvalue()


def _mp4(clip: np.ndarray, rate: Fraction) -> bytes:
    try:
        import av
    except ImportError:
        raise OSError("writing MP4 needs PyAV, an extra: pip install 'jaxflow[video]'") from None
    stream = io.BytesIO()
    clip = np.pad(clip, ((0, 0), (0, clip.shape[1] % 2), (0, clip.shape[2] % 2), (0, 0)), "edge")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(stream, "w", format="mp4") as container:
        pictures: Any = container.add_stream(codec, rate=rate.limit_denominator(1001))
        pictures.height, pictures.width, pictures.pix_fmt = *clip.shape[1:3], "yuv420p"
        pictures.options = {"crf": QUALITY} if codec == "libx264" else {"qscale": "2"}
        for frame in clip:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode())
    return stream.getvalue()


FORMATS: dict[str, Callable[[np.ndarray, Fraction], bytes]] = {
    ".gif": _gif,
    ".webp": _webp,
    ".png": _png,
    ".mp4": _mp4,
}
