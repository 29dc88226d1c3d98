"""Functions and tests named in the documentation exist, and the programs of its pages run."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("chapter.md", "rules.md", "training.md")
PAGES = "".join((ROOT / "docs" / name).read_text() for name in NAMES)
ALL = "".join(
    file.read_text(encoding="utf-8") for pattern in ("*.md", "docs/*.md") for file in ROOT.glob(pattern)
)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+\.[A-Za-z_0-9]+)`", PAGES))))
def test_function_exists(name):
    module, function = name.split(".")
    assert callable(getattr(importlib.import_module(f"jaxflow.{module}"), function))


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", ALL))))
def test_test_exists(test):
    file, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text()


def test_the_program_of_the_page_sweeps_over_w():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)
    names = {}
    exec(program, names)
    means = names["samples"].mean(axis=1)[:, 0]
    assert (names["samples"].shape, means.shape) == ((3, 1000, 2), (3,))
    assert abs(means[0]) < 0.15  # unconditional, between the components
    assert abs(means[1] - 1) < 0.1 < means[2] - 1  # the conditional mean, and beyond it


def test_the_tour_runs_from_its_first_block_to_its_last():
    """Each block asserts its formula; an assertion that fails is shown with its line in the page."""
    page, names = ROOT / "docs" / "tour.md", {}
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        first = text[: found.start(1)].count("\n")
        exec(compile("\n" * first + found[1], str(page), "exec"), names)


def test_the_tour_in_chinese_has_the_same_blocks_figures_and_formulas():
    """So that the test above runs it too."""
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("tour.md", "tour.zh.md")]
    for part in (r"```.*?```", r"\]\((figures/.*?)\)", r"(?m)^#+ "):
        english, chinese = (re.findall(part, page, re.DOTALL) for page in pages)
        assert english == chinese
    english, chinese = (re.sub(r"```.*?```", "", page, flags=re.DOTALL) for page in pages)
    of = [set(re.findall(r"\$`?(.+?)`?\$", prose)) for prose in (english, chinese)]
    assert of[0] <= of[1]
    inline = re.compile(r"(?<=\s)\$`[^`$]+`\$")  # after a letter or a comma GitHub shows dollars as text
    assert "$" not in inline.sub("", chinese)
