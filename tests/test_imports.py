"""Which modules may import which, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxflow

ROOT = Path(jaxflow.__file__).parent
LEVELS = {
    name: level
    for level, names in enumerate(
        (
            ("typing", "ranges", "progress", "places", "digests"),
            ("per_example", "adapters", "devices", "shapes", "emoji", "couplings"),
            ("paths", "nn", "data", "spaces", "moving_shapes"),
            ("times", "mixtures", "perceptual"),
            ("predictions",),
            ("solvers", "fields", "guidance", "losses", "autoencoding", "pretrained"),
            ("sampling", "adaptive", "training", "evaluation"),
            ("likelihood", "sweeps", "editing", "flow_maps", "tilting"),
            ("map_losses",),
            ("runs",),
        )
    )
    for name in names
}
ONLY_IN = {
    "flax": {"nn", "adapters", "fields", "pretrained", "runs"},
    "optax": {"training", "evaluation", "runs"},
    "orbax": {"training"},
    "tensorflow_datasets": {"data", "shapes", "moving_shapes", "emoji"},
    "grain": {"data"},
    "av": {"data"},
    "sklearn": {"data"},
    "tokenizers": {"pretrained"},
    "safetensors": {"pretrained", "runs"},
    "pydantic": {"nn", "runs"},
    "tyro": set(),
    "matplotlib": set(),
    "torch": set(),
    "transformers": set(),
    "experiments": set(),
}


def modules():
    return [file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py"]


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(file):
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_module_has_a_level():
    assert {part(file) for file in modules()} == set(LEVELS)


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down(file):
    for name in imported(file):
        top, *rest = name.split(".")
        if top == "jaxflow" and rest and rest[0] in LEVELS and rest[0] != part(file):
            assert LEVELS[rest[0]] < LEVELS[part(file)], f"{part(file)} imports {name}"
        if top in ONLY_IN:
            assert part(file) in ONLY_IN[top], f"{part(file)} imports {name}"


def imports_of(package, root=ROOT.parent):
    """The modules of a package, each with those of the package it imports."""
    found = {}
    for file in (root / package).rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {
        name: {other for other in imported(file) if other in found} - {name} for name, file in found.items()
    }


def level(graph, name, above=()):
    """The length of the longest chain of imports below."""
    assert name not in above, f"a cycle: {' -> '.join((*above, name))}"
    return 1 + max((level(graph, other, (*above, name)) for other in graph[name]), default=-1)


@pytest.mark.parametrize(("package", "most"), [("experiments", 3), ("jaxflow", None)])
def test_imports_are_acyclic(package, most):
    """And the scripts have few levels: what they share belongs to the library."""
    graph = imports_of(package)
    # A package's __init__ re-exports its modules.
    graph = {
        name: {other for other in others if not name.startswith(f"{other}.")}
        for name, others in graph.items()
    }
    highest = max(level(graph, name) for name in graph)
    assert most is None or highest < most


def test_importing_the_library_is_light():
    """No data library, no optimiser, no network library, no backend."""
    code = """
import sys, jaxflow
from jax._src import xla_bridge
heavy = {"tensorflow", "tensorflow_datasets", "grain", "flax", "optax", "orbax", "matplotlib", "sklearn",
    "tokenizers", "safetensors", "torch", "transformers", "pydantic", "av", "experiments", "scipy.special",
    "scipy.optimize"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
jaxflow.paths, jaxflow.guidance, jaxflow.sampling, jaxflow.mixtures, jaxflow.spaces, jaxflow.losses
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not xla_bridge._backends
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_public_contract():
    """Names that external checks rely on."""
    from jaxflow import guidance, losses, mixtures, paths, predictions, sampling, solvers, times

    for module, names in {
        paths: "Linear Cosine SquareRoot VariancePreserving coefficients interpolate conditional_velocity"
        " conditional_score",
        predictions: "convert",
        mixtures: "Mixture velocity score class_log_prob",
        guidance: "classifier_free classifier",
        losses: "drop_condition flow_matching",
        times: "uniform",
        solvers: "euler midpoint heun rk4",
        sampling: "sample_ode sample_sde",
        jaxflow: "load Model",
    }.items():
        for name in names.split():
            assert callable(getattr(module, name))
