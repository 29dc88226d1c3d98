import os
import signal
import subprocess
import sys

import pytest

from jaxflow.training.lock import Lock

HOLD = "import sys, time, pathlib; from jaxflow.training.lock import Lock\n\
with Lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match=f"in use by process {holder.pid} on .*: wait for it"),
            Lock(tmp_path),
        ):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with Lock(tmp_path):  # kill -9 frees it
        pass


def test_the_folder_is_free_after_the_context(tmp_path):
    for _ in range(2):
        with Lock(tmp_path):
            assert str(os.getpid()) in (tmp_path / "lock").read_text()
