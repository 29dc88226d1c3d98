"""The events of a run for TensorBoard, each flushed to disk before the run continues.

A file of events is a sequence of TFRecords, each a protocol buffer `Event`. The few fields in use are encoded
here: TensorBoard's own writers hand events to a thread, which loses them in a kill and hides a full disk.

Sources: the TFRecord format, https://www.tensorflow.org/tutorials/load_data/tfrecord; `event.proto` and
`summary.proto` of TensorFlow; CRC-32C, RFC 3720, appendix B.4.
"""

import io
import os
import socket
import struct
import time

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxflow.places import Place
from jaxflow.training.files import Appendable


class Events:
    """A file of events in `folder`; events there of steps after `start` are discarded by TensorBoard.

    Raises:
        OSError: here and below, an event cannot be written.
    """

    def __init__(self, folder: Place, start: int):
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.3f}.{socket.gethostname()}.{os.getpid()}.{start}"
        self._file = Appendable(folder / name)
        self._write(0, _field(3, b"brain.Event:2"))
        self._write(start + 1, _field(7, _field(1, 1)))  # a session log, START

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by their names."""
        for name, value in values.items():
            self._value(step, name, _field(2, float(value), "<f"))

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w *c"]) -> None:
        """An image."""
        png, (height, width) = io.BytesIO(), image.shape[:2]
        Image.fromarray(image.squeeze()).save(png, "png")
        sizes = _field(1, height) + _field(2, width) + _field(3, image.size // (height * width))
        self._value(step, name, _field(4, sizes + _field(4, png.getvalue())))

    def _value(self, step: int, name: str, value: bytes) -> None:
        self._write(step, _field(5, _field(1, _field(1, name.encode()) + value)))

    def _write(self, step: int, content: bytes) -> None:
        event = _field(1, time.time(), "<d") + _field(2, step) + content
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _field(number: int, value: int | float | bytes, form: str = "") -> bytes:
    """A field of a protocol buffer: an integer, a float in the form of `struct`, or bytes."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | (1 if form == "<d" else 5)) + struct.pack(form, value)


def _varint(number: int) -> bytes:
    """A varint: seven bits per byte, lowest first; the high bit marks that more follow.

    >>> _varint(300).hex()
    'ac02'
    """
    start = bytearray()
    while number > 127:
        start.append(number & 127 | 128)
        number >>= 7
    return bytes([*start, number])


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(number >> 1) ^ (0x82F63B78 if number & 1 else 0) for number in table]
    return table


TABLE = _table()


def _checksum(content: bytes) -> bytes:
    """The masked CRC-32C of TFRecords."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
