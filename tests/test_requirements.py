"""docs/requirements.md lists the requirements that tests and pages cite, and each has a test."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def text(*patterns):
    return "".join(file.read_text() for pattern in patterns for file in ROOT.glob(pattern))


def test_each_listed_requirement_has_a_test_and_each_cited_one_is_listed():
    listed = re.findall(r"^- \*\*(R\d+)\*\* .*\.$", text("docs/requirements.md"), re.MULTILINE)
    assert listed == sorted(set(listed), key=lambda name: int(name[1:]))
    marks = re.findall(r"mark\.requirement\(([^)]*)\)", text("tests/**/test_*.py"))
    assert set(re.findall(r"R\d+", "".join(marks))) == set(listed)
    assert set(re.findall(r"\bR\d+\b", text("*.md", "docs/*.md"))) <= set(listed)
