import os
import signal
import subprocess
import sys
import threading

import pytest

from jaxflow.training.interruption import STOPPING, Interruption, heeded

WAIT = "import time; from jaxflow.training.interruption import Interruption\n\
with Interruption() as interruption:\n\
    print('ready', flush=True)\n\
    while interruption.signal is None: time.sleep(0.01)\n\
    print('recorded', flush=True); time.sleep(600)"


@pytest.mark.parametrize("number", STOPPING)
def test_a_first_signal_is_recorded(number):
    handler = lambda *_: None  # noqa: E731
    before = signal.signal(number, handler)  # a background job may ignore it
    try:
        with Interruption() as interruption:
            assert interruption.signal is None
            os.kill(os.getpid(), number)
            assert interruption.signal == number
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_second_signal_ends_the_process_at_once():
    process = subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True)
    for line in ("ready\n", "recorded\n"):
        assert process.stdout.readline() == line
        os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in heeded()
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.signal is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_signals_are_left_alone():
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append(interruption.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
