"""What the scripts share: errors in one line, and quiet libraries."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# tensorflow-datasets recommends OpenCV through absl at each start; Pillow decodes fast enough.
logging.getLogger("absl").setLevel(logging.ERROR)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what is wrong with the input into one line on standard error and exit code 2.

    Stands around the reading and checking of input, before anything is compiled; an error
    after that is a fault of the program and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
