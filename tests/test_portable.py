"""What a laptop with Windows has not got, no file imports or uses without asking."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty"}
"""Modules of the standard library that Windows lacks."""
GUARDED = {
    "sysconf": {"experiments/host_memory.py"},  # after a look for glibc
    "CDLL": {"experiments/host_memory.py"},
}
"""Functions, and the files that call them where they exist."""
USED = re.compile(
    r"\bos\.(fork|getuid|geteuid|setuid|setsid|killpg|mkfifo|sysconf|uname|wait)\b"
    r"|\bsignal\.(SIGHUP|SIGKILL|SIGQUIT|SIGUSR1|SIGUSR2|SIGALRM|alarm|pause|pthread_kill)\b|\bctypes\.(CDLL)\b"
)
FILES = sorted(file for package in ("jaxflow", "experiments") for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ["jaxflow", "experiments"])
def test_no_file_needs_what_windows_lacks(package):
    for file in FILES:
        name = file.relative_to(ROOT).as_posix()
        if not name.startswith(f"{package}/"):
            continue
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not ABSENT & {module.split(".")[0] for module in modules}, name
        for match in USED.finditer(text):
            used = next(filter(None, match.groups()))
            assert name in GUARDED.get(used, ()), f"{name}: {match.group()}"
