"""The program of docs/training.md verbatim: trained, stopped, resumed, sampled."""

import re
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


def test_the_program_of_the_page_trains_resumes_and_samples(tmp_path, monkeypatch):
    assert sum(bool(line.strip()) for line in PROGRAM.splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    first = ran(PROGRAM.replace("steps=60, out", "steps=20, out"))
    assert int(first["state"].step) == 20
    whole = ran(PROGRAM)
    assert int(whole["state"].step) == 60
    assert [line["step"] for line in log.read(Path("runs/mine"))] == [20, 40, 60]
    again = ran(PROGRAM)  # nothing is left to train
    np.testing.assert_array_equal(again["samples"], whole["samples"])
    dark, light = whole["samples"].astype(float)
    assert light.mean() - dark.mean() > 25  # 60 steps learn most of the difference of 120
