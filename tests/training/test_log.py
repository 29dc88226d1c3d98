import json

import pytest

from jaxflow.training.log import PATIENCE, Log


def metrics(loss, skipped=0):
    return {"loss": loss, "gradient_norm": 1.0, "skipped": skipped}


def open_log(folder, start=0):
    return Log(folder, start=start, steps=100, batch_size=4, every=2)


def test_means_of_the_steps_since_the_last_line(tmp_path):
    log = open_log(tmp_path)
    for n, loss in enumerate([1.0, 3.0, 5.0, 9.0], start=1):
        log.record(n, metrics(loss))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 2.0), (4, 7.0)]


def test_steps_that_will_be_done_again_and_a_torn_line_are_removed(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
    open_log(tmp_path, start=4).close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [2, 4]


def test_gives_up_after_steps_in_a_row_that_were_not_finite(tmp_path):
    log = open_log(tmp_path)
    for n in range(1, PATIENCE):
        log.record(n, metrics(float("nan"), skipped=1))
    log.record(PATIENCE, metrics(1.0))
    for n in range(1, PATIENCE):
        log.record(n, metrics(float("nan"), skipped=1))
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        log.record(PATIENCE, metrics(float("nan"), skipped=1))
    log.close()
