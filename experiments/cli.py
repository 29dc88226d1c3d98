"""What the scripts share: errors in one line, an end by Ctrl-C, and quiet libraries."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from types import FrameType
from typing import NoReturn

import jax
from tqdm import tqdm

from experiments import host_memory
from jaxflow.devices import processes
from jaxflow.runs import cache

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
    """Run the script, with the processes beside it if there are any, of which the first alone speaks.

    A signal, where nothing is to be saved, ends it in one line. One of several processes that fails or is
    stopped ends at once: it would wait for the others, which wait for it. When a training stops, all do.
    """
    host_memory.keep()
    cache.keep_programs()
    code = 0
    try:
        with refusing():
            processes.start()
        for number in (signal.SIGTERM, signal.SIGINT):  # after JAX, which has a handler of its own
            signal.signal(number, _stop)
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (FloatingPointError, OSError) as error:  # of the run, not of the program
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    if code and code < 128:
        _exit_alone(code)
    sys.exit(code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    print(f"\nstopped by {signal.Signals(number).name}", file=sys.stderr)
    _exit_alone(128 + number)
    sys.exit(128 + number)


def _exit_alone(code: int) -> None:
    """End now, if there are other processes: to leave them in order is to wait until they leave too."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
