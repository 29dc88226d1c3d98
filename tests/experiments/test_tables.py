import json

import numpy as np
import pytest

from experiments import evaluate
from experiments.report.tables import print_table, write_json


def test_json_has_null_for_what_is_not_finite(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1.0, float("nan")], "b": {"c": float("inf")}, "d": ("x", None, 3)})
    result = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert result == {"a": [1.0, None], "b": {"c": None}, "d": ["x", None, 3]}


def test_a_table_of_classes_fits_a_terminal(capsys):
    for names in evaluate.TABLES:
        columns = [name for name in names if name not in ("caption", "clip score")]
        figures, halves = dict.fromkeys(columns, 0.12345), dict.fromkeys(columns, 0.00012345)
        rows = [("1.000001", figures), ("real", figures | {"recall": np.nan})]
        print_table("w", columns, rows, [halves] * 2)
        lines = capsys.readouterr().out.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) <= 110
