"""The page "The chapter as code" names nothing that is not there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "chapter.md").read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+\.[A-Za-z_0-9]+)`", PAGE))))
def test_function_exists(name):
    module, function = name.split(".")
    assert callable(getattr(importlib.import_module(f"jaxflow.{module}"), function))


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", PAGE))))
def test_test_exists(test):
    file, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text()
