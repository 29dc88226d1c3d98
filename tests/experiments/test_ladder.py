import json

import pytest

from experiments.benchmarks import ladder
from experiments.report import plots


def scripts(name, *arguments):
    """`train` and `evaluate` without images: the accuracy is (seed + w) times the number of steps."""
    if name == "train":
        _, *pairs = arguments
        options = dict(zip(pairs[::2], pairs[1::2], strict=True))
        size = int(options.get("--batch-size", 64))
        run = ladder.Path(options["--out"])
        run.mkdir(parents=True, exist_ok=True)  # the short run is asked for again
        (run / "config.json").write_text(json.dumps({"experiment": {"batch_size": size}}))
        speeds = (1.0, 10.0 * size, 10.0 * size)  # the first is that of compilation
        (run / "metrics.jsonl").write_text("".join(f'{{"images_per_second": {v}}}\n' for v in speeds))
        (run / "made").write_text(f"{options['--seed']} {options['--steps']}")
        return
    run, scales = ladder.Path(arguments[0]), [float(w) for w in arguments[arguments.index("--w") + 1 :]]
    seed, steps = map(int, (run / "made").read_text().split())
    accuracy = [(seed + w) * steps for w in scales]
    (run / "evaluation.json").write_text(json.dumps({"table": {"w": scales, "accuracy": accuracy}}))


def test_variants_train_for_equal_time(tmp_path, monkeypatch, capsys):
    """Ten steps a second, whatever the batch; the seeds are 1 and 3."""
    monkeypatch.setattr(ladder, "call", scripts)
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, file: drawn.append((figure, file)))
    numbers = ["--minutes", "0.5", "2", "--seeds", "1", "3", "--w", "1", "2", "--figures", "accuracy"]
    ladder.main(["digits", "--out", str(tmp_path), *numbers, "--variants", "", "batch-size=32"])
    rows = json.loads((tmp_path / "ladder.json").read_text())["rows"]
    assert [row["mean"]["images / s"] for row in rows] == [640.0] * 4 + [320.0] * 4
    for row, (minutes, w) in zip(rows, [(0.5, 1), (0.5, 2), (2, 1), (2, 2)] * 2, strict=True):
        assert row["mean"]["steps"] == 600 * minutes
        assert row["mean"]["accuracy"] == pytest.approx((2 + w) * 600 * minutes)
        assert row["deviation"]["accuracy"] == pytest.approx(2**0.5 * 600 * minutes)
    [(figure, file)] = drawn
    assert file == tmp_path / "ladder.png"
    [panel] = figure.axes
    curves = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in panel.containers}
    assert curves["batch-size=32, w = 2"] == [[0.5, 4 * 300], [2, 4 * 1200]]
    assert len(curves) == 4
    assert "batch-size=32, 2 min, w = 1" in capsys.readouterr().out
