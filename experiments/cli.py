"""What the scripts share: errors in one line, an end by Ctrl-C, and quiet libraries."""

import logging
import sys
from collections.abc import Callable, Iterator
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


def script(main: Callable[[], None]) -> None:
    """Run the script; Ctrl-C, where nothing is to be saved, ends it in one line with exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped by SIGINT", file=sys.stderr)
        sys.exit(130)
