import io
import os
import signal
import subprocess
import sys
import warnings

import jax
import pytest

from experiments import cli, streams
from experiments.cli import script
from jaxflow.devices import processes
from jaxflow.training import interruption

WAIT = """
import sys, time
from experiments.cli import script

def main():
    print("ready", flush=True)
    while True:  # a signal just before one long sleep would wait for its end
        time.sleep(0.1)

script(main)
"""


def test_a_signal_ends_a_script_in_one_line_unless_it_was_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, for the child
    try:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", WAIT], **pipes)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.split() == ["stopped", "by", "SIGTERM"]


@pytest.fixture
def in_process(monkeypatch):
    """Scripts that leave this process as it was."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.update({number: handler}))
    monkeypatch.setattr("jaxflow.runs.cache.keep_programs", lambda: None)
    monkeypatch.setattr("experiments.host_memory.keep", lambda: None)
    return handlers


def code_of(main) -> int:
    with pytest.raises(SystemExit) as stop:
        script(main)
    return stop.value.code


def raising(error):
    def main():
        raise error

    return main


def test_every_signal_is_heeded_that_was_not_ignored(in_process, monkeypatch):
    monkeypatch.setattr(interruption, "heeded", lambda: [signal.SIGTERM])
    assert code_of(lambda: None) == 0
    assert in_process.pop(signal.SIGTERM) is cli._stop
    assert set(in_process.values()) == {signal.SIG_IGN}


OUT_OF_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (FloatingPointError("step 7: not finite"), 1, "error: step 7: not finite\n"),
        (OSError("runs/x: no space left"), 1, "error: runs/x: no space left\n"),
        (SystemExit(143), 143, ""),
        (MemoryError("7 bytes"), 1, "error: out of memory: lower --batch-size"),
        (OUT_OF_MEMORY, 1, "error: out of memory: lower --batch-size"),
    ],
)
def test_errors_of_a_run_are_one_line(error, code, says, capsys, in_process):
    assert code_of(raising(error)) == code
    found = capsys.readouterr().err
    assert found.startswith(says)
    assert found.count("\n") == bool(says)


@pytest.mark.parametrize("main", [lambda: {}["no such key"], raising(jax.errors.JaxRuntimeError("INTERNAL"))])
def test_a_fault_of_the_program_keeps_its_traceback(capsys, in_process, main):
    assert code_of(main) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_long_error_is_cut(capsys):
    with pytest.raises(SystemExit) as stop, cli.refusing():
        raise ValueError("too\nlong " * 1000)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: too long too long")
    assert len(line) <= len("error: ") + cli.LONGEST


def test_devices_that_are_not_there_are_one_line(capsys, in_process, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", raising(RuntimeError("Unable to initialize backend\n'cuda'")))
    assert code_of(lambda: None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "JAX_PLATFORMS = 'cuda': no such device is usable here" in line


def test_a_warning_is_one_line(capsys, in_process):
    assert code_of(lambda: warnings.warn("a thing\nto know", stacklevel=1)) == 0
    assert capsys.readouterr().err == "warning: a thing to know\n"


def test_options_are_compared_by_name_but_for_folders_of_data(in_process):
    one = cli.started_as(["digits", "--learning-rate", "1", "--w", "1", "-2", "--data-dir", "x", "--profile"])
    other = cli.started_as(["digits", "--learning_rate=1", "--data-dir=y", "--w", "1", "-2", "--profile"])
    assert one == other
    assert one["--w"] == "1 -2"
    assert one["the version of jax"] == jax.__version__
    assert cli.started_as(["digits", "--learning-rate", "2"]) != one


def test_processes_that_were_started_differently_end_with_what_differs(capsys, in_process, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "digits", "--steps", "4"])
    other = {"failure": None, "found": cli.started_as(["digits", "--steps", "5"])}
    monkeypatch.setattr(processes, "_gathered", lambda here: [here, other])
    assert code_of(lambda: None) == 2
    assert "--steps is 4 in process 0 and 5 in process 1" in capsys.readouterr().err


class Broken(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError


def test_streams_that_are_closed_or_broken_are_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", None)
    streams.keep()
    print("a")
    print("b", file=sys.stderr)
    sys.stdout.flush()
    assert not sys.stdout.isatty()


def test_names_that_are_no_text_can_be_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    streams.keep()
    print("caf\xe9 \udcff")
    assert sys.stdout.buffer.getvalue() == rb"caf\xe9 \udcff" + b"\n"
