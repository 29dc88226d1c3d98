"""How a field is integrated: the solver and the grid of times, by their names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import ranges, sampling, solvers, times
from jaxflow.paths import time_of
from jaxflow.predictions import Prediction
from jaxflow.solvers import Solver
from jaxflow.typing import GaussianPath, Keys, StatefulField, VectorField

ODE: dict[str, Callable[[GaussianPath], Solver]] = {
    "euler": lambda path: solvers.euler(),
    "midpoint": lambda path: solvers.midpoint(),
    "heun": lambda path: solvers.heun(),
    "rk4": lambda path: solvers.rk4(),
    "adams_bashforth2": lambda path: solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m,
}
"""Of the ODE."""
SDE: dict[str, Callable[[Any], Solver]] = {
    "euler_maruyama": solvers.euler_maruyama,
    "stochastic_heun": solvers.stochastic_heun,
}
"""Of the SDE with the same marginals, made of its sigma."""
ANCESTRAL = {"ddpm": 1.0, "ddim": 0.0}
"""Eta of the ancestral step."""
SOLVERS = (*ODE, *SDE, *ANCESTRAL)
LOUDEST = 80.0
"""Noise in units of data; Karras et al. 2206.00364, table 1, sigma_max."""
GRIDS: dict[str, Callable[[int, GaussianPath], Float[Array, " steps"]]] = {
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
    """Of the ODE: euler, midpoint, heun, rk4, adams_bashforth2, dpm_solver_2m; of the SDE: euler_maruyama,
    stochastic_heun; ancestral: ddpm, ddim. The default is heun, dpm_solver_2m where the network predicts
    noise, score or data, and euler_maruyama where sigma is not 0."""
    grid: str | None = None
    """Times of the steps: uniform, cosine (dense at both ends) or karras (dense near the noise, where the
    background is decided); the default is uniform, and karras where the network predicts noise, score or
    data."""
    shift: float = 1.0
    """Of the grid towards the noise, above 1 for larger images."""
    together: int | None = None
    """Images that are made together; as many as fit the memory, and no more than 256, if left out."""

    def check(self, path: GaussianPath, prediction: Prediction, sigma: float = 0.0) -> None:
        """Raise a ValueError that names the first unusable option; nothing is computed."""
        ranges.at_least(1, steps=self.steps)
        ranges.positive(shift=self.shift)
        ranges.not_negative(sigma=sigma)
        if self.together is not None:
            ranges.at_least(1, together=self.together)
        _chosen("grid", self._grid_name(prediction), GRIDS)
        name = self.solver_name(prediction, sigma)
        if name not in SOLVERS:
            raise ValueError(f"solver = {name!r}: there are {', '.join(SOLVERS)}")
        if sigma and name not in SDE:
            raise ValueError(
                f"sigma = {sigma:g}: the solver {name!r} is not of the SDE; there are {', '.join(SDE)}"
            )
        if prediction == "data" and self._looks_ahead(name, path):
            others = (other for other in SOLVERS if not self._looks_ahead(other, path))
            raise ValueError(
                f"solver = {name!r}: it asks for the velocity at t = 1, where a network of the data"
                f" has none; there are {', '.join(others)}"
            )

    def solver_name(self, prediction: Prediction, sigma: float = 0.0) -> str:
        """The solver asked for, or the default for such a sigma."""
        default = "heun" if prediction in ("velocity", "v") else "dpm_solver_2m"
        return self.solver or ("euler_maruyama" if sigma else default)

    def times(self, path: GaussianPath, prediction: Prediction) -> Float[Array, " steps"]:
        """The grid, (steps + 1,).

        A network of the noise or the score says nothing of the data at t = 0, where x is noise alone: there
        the walk begins where there is `LOUDEST` times as much noise as data.
        """
        grid = GRIDS[self._grid_name(prediction)](self.steps, path)
        grid = grid if self.shift == 1 else times.shifted(grid, self.shift)
        if prediction not in ("noise", "score"):
            return grid
        one = jnp.ones((), grid.dtype)
        return grid.at[0].set(jnp.minimum(time_of(path, one, LOUDEST * one), grid[1] / 2))

    def _grid_name(self, prediction: Prediction) -> str:
        return self.grid or ("uniform" if prediction in ("velocity", "v") else "karras")

    def _looks_ahead(self, name: str, path: GaussianPath) -> bool:
        return name in ODE and ODE[name](path).looks_ahead


def integrate(
    keys: Keys,
    field: VectorField | StatefulField,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    *,
    solver: str,
    grid: Float[Array, " steps"],
    sigma: float | Array,
) -> Float[Array, "b *event"]:
    """Carry `noise` to the data by the solver of this name; sigma is of the SDE's alone."""
    if solver in SDE:
        return sampling.sample_sde(keys, field, path, noise, grid, sigma=sigma, solver=SDE[solver])
    if solver in ANCESTRAL:
        return sampling.sample_ddpm(keys, field, path, noise, grid, eta=ANCESTRAL[solver])
    return sampling.sample_ode(field, noise, grid, solver=ODE[solver](path))


def check_walk(solver: str, path: GaussianPath, grid: Callable[[], Float[Array, " steps"]]) -> None:
    """Raise a ValueError where the solver of this name cannot walk along the grid on the path."""
    make = ODE.get(solver, solvers.ancestral if solver in ANCESTRAL else None)
    if make is not None and make(path).forward_only:
        make(path).check(grid())


def _chosen(option: str, name: str, choices: dict[str, Any]) -> None:
    if name not in choices:
        raise ValueError(f"{option} = {name!r}: there are {', '.join(choices)}")
