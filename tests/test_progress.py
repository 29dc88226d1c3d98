"""A bar on a terminal of 80 columns; lines elsewhere."""

import io
import re
import sys

import pytest

from jaxflow import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(io.StringIO):
    """A terminal that was closed, or a pipe without a reader."""

    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.fixture
def columns(monkeypatch):
    """Of the terminal, as tqdm finds them."""
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (80, 24))


def train(total=20_000, note="loss 0.1234, skipped 12"):
    with progress.Progress(total, "train", unit="step", done=10) as bar:
        bar.note(note)
        for n in range(30):
            bar.advance()
            if n == 10:
                progress.say("a line")


def test_the_bar_fits_80_columns_and_a_line_does_not_break_it(monkeypatch, columns):
    monkeypatch.setattr("sys.stderr", Terminal())
    train()
    shown = re.split(r"[\r\n]", sys.stderr.getvalue())
    assert max(map(len, shown)) <= 80
    assert "a line" in shown
    assert "40/20000" in shown[-2]
    assert shown[-2].endswith("loss 0.1234, skipped 12")


def test_without_a_terminal_there_is_a_line_a_minute_and_one_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress(100, "train", unit="step", done=40) as bar:
        for n in range(40):
            now[0] += 10
            bar.advance()
            bar.note(f"loss {n}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 400 // 60 + 1
    assert lines[0].startswith("train  46% 46/100 [01:00, 09:00 left,")
    assert lines[-1].endswith("loss 39")


def test_time_in_a_pause_is_not_in_the_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress(100, "train") as bar:
        now[0] = 10.0
        bar.advance(20)
        with bar.pause():
            now[0] = 1000.0
        assert bar.rate() == 2.0


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_short_work_is_not_reported(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream())
    assert list(progress.over(range(3), "read")) == [0, 1, 2]
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("stream", [None, Broken()])
def test_nobody_listening_is_no_error(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    train()


def test_a_silenced_process_reports_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_silent", False)
    progress.silence()
    train()
    assert capsys.readouterr().err == ""


def test_the_steps_of_a_compiled_loop_are_those_of_its_times(monkeypatch, columns):
    """A solver may evaluate within a step and at its end; going back is the next block of images."""
    monkeypatch.setattr("sys.stderr", Terminal())
    steps = progress.Steps([0.0, 0.25, 0.5, 0.75, 1.0])
    seen = []
    with steps.shown("sample", blocks=2, visible=True):
        for t in (0.0, 0.125, 0.25, 0.25, 0.5, 0.75, 1.0, 0.0, 0.25, 0.5, 0.75):
            steps.at(t)
            seen.append(steps._bar.done)
    assert seen == [0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7]
    assert "/8 [" in sys.stderr.getvalue()
    steps.at(0.5)  # late: nobody looks
