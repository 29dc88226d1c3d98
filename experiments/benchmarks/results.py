"""Every table and figure of docs/results.md, measured again: the page runs itself.

    python -m experiments.benchmarks.results [SECTION ...] [--page docs/results.md]

Runs the commands of the page's console blocks in order, from the repository's root, and writes below them
what they print, how long each took and, at the end of a block, date, commit, versions and machine. A block is
saved as soon as it is done, so an interruption loses at most one. SECTION selects headings by a word in them.
"""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import tyro

from experiments.cli import refusing
from jaxflow.training.files import atomic_write

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    sections: tyro.conf.Positional[tuple[str, ...]] = ()
    """Headings to measure, by a word in them; all if none is given."""
    page: Path = Path("docs/results.md")


def main(argv: list[str] | None = None) -> None:
    """Measure the blocks in order."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.results")
    with refusing():
        text = arguments.page.read_text()
        chosen = [i for i, heading in enumerate(headings(text)) if selected(heading, arguments.sections)]
        if not chosen:
            raise ValueError(
                f"sections = {arguments.sections}: no heading of {arguments.page} has such a word"
            )
    for i in chosen:
        block = [*BLOCK.finditer(arguments.page.read_text())][i]
        measured = measure(commands(block[1]))
        text = arguments.page.read_text()
        with atomic_write(arguments.page) as stream:
            stream.write((text[: block.start(1)] + measured + text[block.end(1) :]).encode())


def headings(text: str) -> Iterator[str]:
    """The heading above each block."""
    for block in BLOCK.finditer(text):
        above = re.findall(r"^##+ (.*)$", text[: block.start()], re.MULTILINE)
        yield above[-1] if above else ""


def selected(heading: str, words: Sequence[str]) -> bool:
    """Whether the heading has one of the words; any heading, if there are none."""
    return not words or any(word.lower() in heading.lower() for word in words)


def commands(block: str) -> list[str]:
    """The commands of a block; a backslash continues one on the next line."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)


def measure(lines: Sequence[str]) -> str:
    """Run the commands; their output, times and conditions as the content of a block.

    Raises:
        SystemExit: a command failed.
    """
    here = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    parts = []
    for line in lines:
        print(f"$ {line}", flush=True)
        begin = time.perf_counter()
        done = subprocess.run(line, shell=True, env=here, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}: {line}\n{done.stdout}")
        printed = "".join(f"{text.rstrip()}\n" for text in done.stdout.strip("\n").splitlines())
        parts.append(f"$ {line}\n{printed}# {spoken(time.perf_counter() - begin)}\n")
        print(parts[-1].split("\n", 1)[1], flush=True)
    return "\n".join(parts) + f"# {conditions()}\n"


def spoken(seconds: float) -> str:
    """A duration for people.

    >>> spoken(192.3)
    '3 min 12 s'
    """
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def conditions() -> str:
    """Date, commit, versions and machine."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True
    ).stdout.strip()
    made = f"{date.today()}, commit {commit}, Python {platform.python_version()}, JAX {version('jax')}"
    return f"{made}, {os.cpu_count()} cores of {processor()}"


def processor() -> str:
    """The name of the CPU, as the system has it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if _on_linux() else None
    return found[1] if found else platform.processor() or platform.machine()


def _on_linux() -> bool:
    return Path("/proc/cpuinfo").exists()


if __name__ == "__main__":
    main()
