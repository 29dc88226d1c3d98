"""The program of docs/training.md verbatim: trained, stopped, resumed, sampled."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxflow.training import log

pytestmark = pytest.mark.usefixtures("standard_promotion")
PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def ran(program):
    names = {}
    exec(compile(program, "docs/training.md", "exec"), names)
    return names


def steps():
    return [line["step"] for line in log.read(Path("runs/mine"))]


def test_the_program_of_the_page_trains_resumes_and_samples(tmp_path, monkeypatch):
    assert sum(bool(line.strip()) for line in PROGRAM.splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    record = log.Log.record

    def record_and_stop(self, n, metrics):
        record(self, n, metrics)
        if n == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "record", record_and_stop)
        with pytest.raises(KeyboardInterrupt):
            ran(PROGRAM)
    stopped = steps()[-1]
    assert 20 <= stopped < 60
    whole = ran(PROGRAM)
    assert int(whole["state"].step) == 60
    assert steps() == sorted({20, stopped, 40, 60})
    again = ran(PROGRAM)  # nothing is left to train
    np.testing.assert_array_equal(again["samples"], whole["samples"])
    dark, light = whole["samples"].astype(float)
    assert light.mean() - dark.mean() > 25  # 60 steps learn most of the difference of 120
