"""Functions and tests named in the documentation exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("chapter.md", "rules.md", "training.md")
PAGES = "".join((ROOT / "docs" / name).read_text() for name in NAMES)
ALL = "".join(file.read_text() for pattern in ("*.md", "docs/*.md") for file in ROOT.glob(pattern))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+\.[A-Za-z_0-9]+)`", PAGES))))
def test_function_exists(name):
    module, function = name.split(".")
    assert callable(getattr(importlib.import_module(f"jaxflow.{module}"), function))


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", ALL))))
def test_test_exists(test):
    file, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text()
