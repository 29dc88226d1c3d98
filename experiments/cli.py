"""Shared by the scripts: one-line errors, signals, several processes, and quiet libraries."""

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import jax

from experiments import host_memory, streams
from jaxflow import progress
from jaxflow.devices import processes
from jaxflow.runs import cache
from jaxflow.training import interruption

LONGEST = 600
"""Most characters of an error; libraries' messages can be pages long."""
VERSIONED = ("jax", "jaxlib", "flax", "optax")
OF_A_MACHINE = ("--data-dir",)
"""Options that may differ between the processes of a run: the data themselves are compared."""

# tensorflow-datasets recommends OpenCV through absl at each start; Pillow decodes fast enough.
logging.getLogger("absl").setLevel(logging.ERROR)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn an error in the input into one line on standard error and exit code 2.

    For reading and checking the input, before anything is compiled: a later error is a fault of the program
    and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        _report(error)
        sys.exit(2)


def script(main: Callable[[], None]) -> None:
    """Run the script, possibly in several processes, of which only the first prints.

    A signal ends it in one line where nothing is to be saved. One of several processes that fails or is
    stopped exits at once: it would wait for the others, which wait for it. When a training stops, all stop.
    """
    streams.keep()
    warnings.showwarning = _show_warning
    heeded = interruption.heeded()
    host_memory.keep()
    cache.keep_programs()
    code = 0
    try:
        with refusing():
            processes.start()
            _check_devices()
            processes.together(dict, lambda _: started_as(sys.argv[1:]))
        for number in interruption.STOPPING:  # after JAX, which installs a handler of its own
            signal.signal(number, _stop if number in heeded else signal.SIG_IGN)
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            progress.silence()
        main()
    except _Stopped as stop:
        _exit_now(stop.code)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (FloatingPointError, OSError) as error:  # of the run, not of the program
        _report(error)
        code = 1
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        _report_memory(error)
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    if code and code < 128:
        _exit_alone(code)
    sys.exit(code)


def started_as(argv: list[str]) -> dict[str, str]:
    """What must agree between the processes of a run: each option by its name, and the versions.

    >>> started_as(["digits", "--out=x", "--w", "1", "2", "--data-dir", "y"])["--w"]
    '1 2'
    """
    found: dict[str, list[str]] = {"the first argument": []}
    name = "the first argument"
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("_", "-")
            found[name] = [value] if equals else []
        else:
            found[name].append(word)
    versions = {
        f"the version of {name}": sys.modules[name].__version__ for name in VERSIONED if name in sys.modules
    }
    return {name: " ".join(words) for name, words in found.items() if name not in OF_A_MACHINE} | versions


def _check_devices() -> None:
    try:
        jax.devices()
    except Exception as error:  # also an assertion, where a package is missing
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(
            f"JAX_PLATFORMS = {asked!r}: no such device is usable here; install JAX for it (for cuda:"
            f" pip install 'jaxflow[cuda]'), or set it to cpu: {error}"
        ) from None


def line(error: BaseException | str) -> str:
    """An error as one line.

    >>> line(ValueError("w = nan:\\n must be finite"))
    'error: w = nan: must be finite'
    """
    text = " ".join(str(error).split())
    return f"error: {text if len(text) <= LONGEST else f'{text[: LONGEST - 4]} ...'}"


def _report(error: BaseException | str) -> None:
    print(line(error), file=sys.stderr)


def _report_memory(error: Exception) -> None:
    """An error of JAX; where memory ran out, with the remedy."""
    text = str(error)
    if (
        not isinstance(error, MemoryError)
        and "RESOURCE_EXHAUSTED" not in text
        and "out of memory" not in text.lower()
    ):
        traceback.print_exception(error)
        return
    _report(
        "out of memory: lower --batch-size or raise --accumulate (when sampling, lower --block or"
        f" --per-label), or use smaller images or a smaller network: {text}"
    )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A one-line warning that does not break a progress bar."""
    progress.say(f"warning: {' '.join(str(message).split())}")


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    print(f"\nstopped by {signal.Signals(number).name}", file=sys.stderr)
    _exit_alone(128 + number)
    raise _Stopped(128 + number)


class _Stopped(SystemExit):
    """By a signal: files are closed and locks released on the way out, and then the process ends at once.

    Other threads may be compiling or reading; a regular exit of the interpreter crashes under them.
    """


def _exit_alone(code: int) -> None:
    """Exit now if there are other processes: an orderly exit waits until they exit too."""
    if jax.distributed.is_initialized():
        _exit_now(code)


def _exit_now(code: Any) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
