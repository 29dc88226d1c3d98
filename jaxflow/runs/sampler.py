"""Solver and grid of times: the options that `sample`, `evaluate` and `sweep` share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from jaxflow.runs.configuration import Experiment
from jaxflow import solvers, times
from jaxflow.solvers import Solver
from jaxflow.typing import GaussianPath

SOLVERS: dict[str, Callable[[GaussianPath], Solver]] = {
    "euler": lambda path: solvers.euler(),
    "midpoint": lambda path: solvers.midpoint(),
    "heun": lambda path: solvers.heun(),
    "rk4": lambda path: solvers.rk4(),
    "adams_bashforth2": lambda path: solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m,
}
Grid = Callable[[int, GaussianPath], Float[Array, " steps"]]
GRIDS: dict[str, Grid] = {
    "uniform": lambda n, path: times.uniform(n),
    "cosine": lambda n, path: times.cosine(n),
    "karras": times.karras,
}


@dataclass(frozen=True)
class Sampler:
    """A solver and its grid of times; what is left out is chosen by what the network predicts."""

    steps: int = 10
    """Steps of the solver."""
    solver: str | None = None
    """euler, midpoint, heun, rk4, adams_bashforth2 or dpm_solver_2m; the default is heun, and dpm_solver_2m
    where the network predicts the data."""
    grid: str | None = None
    """Times of the steps: uniform, cosine (dense at both ends) or karras (dense near the noise, where
    the background is decided); the default is uniform, and karras where the network predicts the data."""

    def check(self, experiment: Experiment) -> None:
        """Raise a ValueError that names the first unusable option; nothing is computed."""
        self.method(experiment)
        self._grid(experiment)

    def method(self, experiment: Experiment) -> Solver:
        """The solver.

        Raises:
            ValueError: there is no such solver, or it asks a network of the data for its velocity at t = 1.
        """
        of_data = experiment.prediction == "data"
        name = self.solver or ("dpm_solver_2m" if of_data else "heun")
        method = _chosen("solver", name, SOLVERS)(experiment.path)
        if of_data and method.looks_ahead:
            others = (other for other, make in SOLVERS.items() if not make(experiment.path).looks_ahead)
            raise ValueError(
                f"solver = {name!r}: it asks for the velocity at t = 1, where a network of the data has none;"
                f" there are {', '.join(others)}"
            )
        return method

    def times(self, experiment: Experiment) -> Float[Array, " steps"]:
        """The grid, (steps + 1,).

        Raises:
            ValueError: there is no such grid, or no step.
        """
        return self._grid(experiment)(self.steps, experiment.path)

    def _grid(self, experiment: Experiment) -> Grid:
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps}: a sampler needs at least 1 step")
        name = self.grid or ("karras" if experiment.prediction == "data" else "uniform")
        return _chosen("grid", name, GRIDS)


def _chosen(option: str, name: str, choices: dict[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"{option} = {name!r}: there are {', '.join(choices)}")
    return choices[name]
