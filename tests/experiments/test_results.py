"""The page of results runs its own commands."""

import re

import pytest

from experiments.benchmarks import results

PAGE = """# Results

## First words

```console
$ echo one \\
  two
old output
# 3.0 s
$ printf 'a  \\nb\\n'
```

## Others

```console
$ exit 3
```
"""


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "results.md"
    file.write_text(PAGE)
    return file


def test_a_section_is_measured_and_the_others_stay(page):
    results.main(["first", "--page", str(page)])
    text = page.read_text()
    before, after = text.split("## Others")
    assert re.search(
        r"\$ echo one \\\n  two\none two\n# 0\.\d s\n\n\$ printf 'a  \\nb\\n'\na\nb\n# 0\.\d s\n# 20", before
    )
    assert "old output" not in before
    assert "$ exit 3\n```" in after
    results.main(["first", "--page", str(page)])  # a measured block is measured again
    assert page.read_text().count("one two") == 1


def test_a_failing_command_ends_it_and_changes_nothing(page):
    with pytest.raises(SystemExit, match="exit code 3"):
        results.main(["others", "--page", str(page)])
    assert page.read_text() == PAGE


def test_an_unknown_section_is_rejected(page, capsys):
    with pytest.raises(SystemExit):
        results.main(["nothing", "--page", str(page)])
    assert "sections = ('nothing',)" in capsys.readouterr().err
