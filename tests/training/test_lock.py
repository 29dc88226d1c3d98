import os
import signal
import subprocess
import sys

import pytest

from jaxflow.training.lock import Lock

HOLD = "import sys, time, pathlib; from jaxflow.training.lock import Lock\n\
with Lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def test_a_second_process_is_rejected_and_told_who_holds_the_folder(tmp_path):
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
            assert str(os.getpid()) in (tmp_path / "lock.holder").read_text()
        assert not (tmp_path / "lock.holder").exists()


def test_the_same_process_does_not_hold_a_folder_twice(tmp_path):
    with Lock(tmp_path), pytest.raises(BlockingIOError, match="in use by process"), Lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def acquire(self):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with (
        pytest.raises(OSError, match=r"the folder cannot be locked \(no flock here\): choose"),
        Lock(tmp_path),
    ):
        pass
