"""The events of a run for TensorBoard, each on the disk before the run goes on.

tensorboardX's own writer hands them to a thread, which a full disk ends unseen and a kill surprises.
"""

import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


class Events:
    """A file of events in `folder`; what others there say of steps after `start` is made void.

    Raises:
        OSError: here and below, an event cannot be written.
    """

    def __init__(self, folder: Path, start: int):
        # Here, since they import torch, where that is installed.
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event = summary, Event
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{start}")
        begin = Event(step=start + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.write_event(begin)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by their names."""
        for name, value in values.items():
            self._write(step, self._summary.scalar(name, value))
        self._writer.flush()

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w *c"]) -> None:
        """A picture."""
        self._write(step, self._summary.image(name, image, dataformats="HWC"[: image.ndim]))
        self._writer.flush()

    def _write(self, step, summary) -> None:
        self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=summary))

    def close(self) -> None:
        """End the file."""
        self._writer.close()
