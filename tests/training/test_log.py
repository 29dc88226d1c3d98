import errno
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxflow.training.files import Appendable
from jaxflow.training.log import EVENTS, PATIENCE, Log, read


def metrics(loss, skipped=0):
    return {"loss": loss, "gradient_norm": 1.0, "skipped": skipped}


def open_log(folder, start=0):
    return Log(folder, start=start, steps=100, batch_size=4, every=2)


def test_means_of_the_steps_since_the_last_line(tmp_path):
    with open_log(tmp_path) as log:
        for n, loss in enumerate([1.0, 3.0, 5.0, 9.0], start=1):
            log.record(n, metrics(loss))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 2.0), (4, 7.0)]


def test_lines_of_steps_that_run_again_and_torn_lines_are_removed(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
    with open_log(tmp_path, start=4):
        pass
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [2, 4]


def test_gives_up_after_consecutive_non_finite_steps(tmp_path):
    with open_log(tmp_path) as log:
        for n in range(1, PATIENCE):
            log.record(n, metrics(float("nan"), skipped=1))
        log.record(PATIENCE, metrics(1.0))
        for n in range(1, PATIENCE):
            log.record(n, metrics(float("nan"), skipped=1))
        with pytest.raises(FloatingPointError, match="lower learning_rate"):
            log.record(PATIENCE, metrics(float("nan"), skipped=1))


def parsed(folder):
    """The lines, as a strict parser of JSON reads them."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.mark.parametrize(("bad", "loss", "norm"), [((3,), 1.0, 1.0), ((4,), 1.0, None), ((3, 4), None, None)])
def test_skipped_steps_are_not_in_the_mean_and_lines_are_json(tmp_path, bad, loss, norm):
    with open_log(tmp_path) as log:
        for n in (1, 2, 3, 4):
            values = (np.float32("nan"), np.float32("inf")) if n in bad else (np.float32(1), np.float32(1))
            log.record(
                n, dict(zip(("loss", "gradient_norm"), values, strict=True), skipped=np.int32(n in bad))
            )
        assert log.mean_loss() == 1.0
        assert log.mean_loss() == np.inf  # of no step
    line = parsed(tmp_path)[-1]
    assert (line["loss"], line["gradient_norm"], line["skipped"]) == (loss, norm, len(bad))
    assert read(tmp_path) == parsed(tmp_path)


def test_nan_in_an_older_log_becomes_null(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": NaN}\n')
    with open_log(tmp_path, start=2):
        pass
    assert parsed(tmp_path) == [{"step": 2, "loss": None}]


def test_the_last_steps_leave_a_line(tmp_path):
    with open_log(tmp_path) as log:
        for n in (1, 2, 3):
            log.record(n, metrics(float(n)))
    assert [(line["step"], line["loss"]) for line in parsed(tmp_path)] == [(2, 1.5), (3, 3.0)]
    with open_log(tmp_path, start=3) as log:  # the line stays, and the next covers the step after it
        log.record(4, metrics(8.0))
    assert [(line["step"], line["loss"]) for line in parsed(tmp_path)] == [(2, 1.5), (3, 3.0), (4, 8.0)]


def test_the_remaining_time_is_printed_once_the_speed_is_known(tmp_path, capsys):
    with open_log(tmp_path) as log:
        for n in range(1, 60):
            log.record(n, metrics(1.0))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("about")]
    assert len(lines) == 1
    assert re.fullmatch(r"about \d+ s to step 100, at \S+ steps/s", lines[0])


def events(folder):
    found = EventAccumulator(str(folder / EVENTS), purge_orphaned_data=True)
    found.Reload()
    return found


def test_tensorboard_reads_what_the_lines_say(tmp_path):
    with open_log(tmp_path) as log:
        for n, loss in enumerate([1.0, 3.0, 5.0, 9.0], start=1):
            log.record(n, metrics(loss))
        log.picture(4, np.zeros((5, 7), np.uint8))
    found = events(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(2, 2.0), (4, 7.0)]
    assert {"gradient_norm", "images_per_second", "waiting_for_data", "saving"} < set(found.Tags()["scalars"])
    (image,) = found.Images("samples")
    assert (image.step, image.height, image.width) == (4, 5, 7)


def test_steps_that_run_again_are_logged_once(tmp_path):
    for start, losses in ((0, [1.0, 1.0, 1.0, 1.0]), (2, [3.0, 3.0])):
        with open_log(tmp_path, start) as log:
            for n, loss in enumerate(losses, start=start + 1):
                log.record(n, metrics(loss))
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("loss")] == [(2, 1.0), (4, 3.0)]


def test_pauses_are_excluded_and_waits_are_shares(tmp_path, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 10.0, 20.0, 14.0, 14.0])
    monkeypatch.setattr("jaxflow.training.log.time.perf_counter", lambda: next(clock))
    with Log(
        tmp_path, start=0, steps=9, batch_size=4, every=1, utilisation=lambda seconds: 0.8 / seconds
    ) as log:
        with log.waiting("saving"):  # from 1 to 3
            pass
        with log.pause():  # from 10 to 20
            pass
        log.record(1, metrics(1.0))  # at 14: 4 seconds after the start and the pause
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert line["images_per_second"] == 1.0
    assert line["saving"] == 0.5
    assert line["utilisation"] == 0.2


def test_a_process_that_does_not_write_counts_too(tmp_path):
    with Log(None, start=0, steps=9, batch_size=4, every=1) as log:
        for n in range(1, 4):
            log.record(n, metrics(float(n)))
        assert log.mean_loss() == 2.0


KILLED = """
import os, pathlib, signal, sys
import numpy as np
from jaxflow.training.log import Log

with Log(pathlib.Path(sys.argv[1]), start=0, steps=9, batch_size=4, every=2) as log:
    for n in range(1, 5):
        log.record(n, {"loss": n, "gradient_norm": 1.0, "skipped": n == 3})
    log.picture(4, np.zeros((5, 7), np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_line_no_event_and_no_picture(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    found = events(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(2, 1.5), (4, 4.0)]
    assert [event.step for event in found.Images("samples")] == [4]
    with open_log(tmp_path, start=4) as log:
        for n in (5, 6):
            log.record(n, metrics(1.0, skipped=1))
    assert [line["skipped"] for line in read(tmp_path)] == [0, 1, 3]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "say", [lambda log: log.record(2, metrics(1.0)), lambda log: log.picture(2, np.zeros((5, 7), np.uint8))]
)
def test_a_full_disk_is_an_error(tmp_path, monkeypatch, say):
    with open_log(tmp_path) as log, monkeypatch.context() as patch:
        patch.setattr(Appendable, "write", full)
        says = "the log cannot be written, the checkpoints are intact: .*No space left"
        with pytest.raises(OSError, match=re.escape(f"{tmp_path}: ") + says):
            say(log)
