"""Tables of figures, on the terminal and as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxflow.places import Place
from jaxflow.runs import folder


def print_table(
    first: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Mapping[str, float]]],
    halves: Sequence[Mapping[str, float]] = (),
) -> None:
    """Print a line per row; a figure that a row lacks, or that is not finite, is a dash.

    >>> print_table("w", ["recall", "a"], [("1.5", {"recall": 0.98765}), ("real", {"a": math.nan})])
       w  recall  a
     1.5  0.9877  -
    real       -  -
    >>> print_table("w", ["a"], [("1", {"a": 0.5}), ("2", {"a": 0.7})], [{"a": 0.014}, {}])
    w           a
    1  0.5 ±0.014
    2         0.7

    Args:
        first: head of the first column, of the names of the rows.
        columns: names of the figures.
        rows: name and figures of each.
        halves: half of the intervals of the figures of each row, where there are any.
    """
    lines = [(first, *columns)]
    around = [*halves, *({} for _ in rows[len(halves) :])]
    lines += [
        (label, *(_text(row.get(name)) + _around(half.get(name)) for name in columns))
        for (label, row), half in zip(rows, around, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def write_json(file: Place, content: dict[str, Any]) -> None:
    """Write JSON that strict parsers read: a figure that is not finite is null."""
    folder.write_json(file, _finite(content))


def _text(figure: float | None) -> str:
    return "-" if figure is None or not math.isfinite(figure) else f"{figure:.4g}"


def _around(half: float | None) -> str:
    return "" if half is None or not math.isfinite(half) else f" ±{half:.2g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
