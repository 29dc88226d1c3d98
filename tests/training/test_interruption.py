import os
import signal
import subprocess
import sys

import pytest

from jaxflow.training.interruption import Interruption

WAIT = "import time; from jaxflow.training.interruption import Interruption\n\
with Interruption() as interruption:\n\
    print('ready', flush=True)\n\
    while interruption.signal is None: time.sleep(0.01)\n\
    print('noted', flush=True); time.sleep(600)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_is_noted(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert interruption.signal is None
        os.kill(os.getpid(), number)
        assert interruption.signal == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(number):
    process = subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True)
    for line in ("ready\n", "noted\n"):
        assert process.stdout.readline() == line
        os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
