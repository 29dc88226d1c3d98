import os
import signal
import subprocess
import sys

import pytest

from experiments.cli import script

WAIT = """
import sys, time
from experiments.cli import script

def main():
    print("ready", flush=True)
    time.sleep(600)

script(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_script_in_one_line(number):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", WAIT], **pipes)
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.split() == ["stopped", "by", number.name]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (FloatingPointError("step 7: not finite"), 1, "error: step 7: not finite\n"),
        (OSError("runs/x: no space left"), 1, "error: runs/x: no space left\n"),
        (SystemExit(143), 143, ""),
    ],
)
def test_errors_of_a_run_are_one_line(error, code, says, capsys, monkeypatch):
    def main():
        raise error

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("jaxflow.runs.cache.keep_programs", lambda: None)
    with pytest.raises(SystemExit) as stop:
        script(main)
    assert stop.value.code == code
    assert capsys.readouterr().err == says


def test_a_fault_of_the_program_keeps_its_traceback(capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("jaxflow.runs.cache.keep_programs", lambda: None)
    with pytest.raises(SystemExit) as stop:
        script(lambda: {}["no such key"])
    assert stop.value.code == 1
    assert "Traceback" in capsys.readouterr().err
