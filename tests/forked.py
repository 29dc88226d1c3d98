"""Processes forked from one that has imported the scripts, which saves each the import of JAX."""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path

import jax

from jaxflow.runs import cache

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["experiments.train", "experiments.sample"])


class Forked:
    """A script in a process of its own, with the methods of `subprocess.Popen` that the tests use.

    Args:
        script: name of the module in `experiments`.
        arguments: of the script.
        devices: CPU devices of the process.
        environment: more variables.
        before: a statement to run first.
    """

    def __init__(self, script, *arguments, devices=1, environment=None, before=""):
        self._output = tempfile.TemporaryDirectory()
        files = [Path(self._output.name, name) for name in ("stdout", "stderr")]
        what = (files, os.environ | (environment or {}), devices, before, script, [*map(str, arguments)])
        self._files, self._process = files, CONTEXT.Process(target=_run, args=what)
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()

    def communicate(self, timeout=None):
        """What it printed, once it has ended."""
        self._process.join(timeout)
        assert self.returncode is not None, f"still running after {timeout} s"
        return [file.read_text() for file in self._files]


def _run(files, environment, devices, before, script, arguments):
    printed, errors = files
    sys.stdout = open(printed, "w")  # noqa: SIM115  of Python alone: Gloo's threads print into each other's lines
    for number, file in ((1, os.devnull), (2, errors)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()  # which is that of the first process to be forked
    os.environ |= environment
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which ignores it
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    cache.SECONDS = 0.0  # what one process compiles, the next finds
    sys.argv = [script, *arguments]
    exec(before)
    try:
        runpy.run_module(f"experiments.{script}", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which processes of this kind skip
