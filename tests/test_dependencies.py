"""What is imported is declared: by the library in its dependencies, by the scripts in their extra."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = {"jaxflow", "experiments"}
ONCE = {"sklearn": "jaxflow/data/digits.py", "emoji": "jaxflow/emoji/names.py"}
"""Imported only to write a data set, once."""


def imported(folder):
    """Top-level packages imported anywhere in a folder, with the file of one such import."""
    found = {}
    place = ROOT / folder
    for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0]: file for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | OWN}


def distributions(requirements):
    names = (re.match(r"[\w.-]+", requirement)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("jaxflow", ("gcs", "prepare", "video")),
        *((file, ("scripts",)) for file in ONCE.values()),
        ("experiments", ("scripts", "reference", "tpu-compile", "demo", "others")),
    ],
)
def test_every_import_is_declared(folder, extras):
    declared = distributions([*PROJECT["dependencies"], *(one for name in extras for one in EXTRAS[name])])
    known = packages_distributions()
    for name, file in imported(folder).items():
        if name in ONCE and folder == "jaxflow":
            assert file == ROOT / ONCE[name]
            continue
        providers = distributions(known.get(name, [name]))
        assert providers & declared, (
            f"{file.relative_to(ROOT)} imports {name}, which pyproject.toml does not declare"
        )
