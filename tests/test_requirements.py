"""Every requirement of the chapter up to the networks, and of the mappings, has a test marked with it."""

import re
from pathlib import Path

NUMBERS = {*range(1, 15), 20, 21, 23, *range(25, 32), *range(33, 56), 60}


def test_each_requirement_has_a_test():
    marks = re.findall(
        r"mark\.requirement\(([^)]*)\)",
        "".join(file.read_text() for file in Path(__file__).parent.rglob("test_*.py")),
    )
    marked = {int(number) for mark in marks for number in re.findall(r'"R(\d+)"', mark)}
    assert marked == NUMBERS
