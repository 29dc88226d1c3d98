"""How a field is integrated: solver and time grid, by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import fields, ranges, sampling, solvers, times
from jaxflow.fields import AnyField
from jaxflow.guidance.scales import interval, is_number
from jaxflow.paths import DDPM, time_of
from jaxflow.predictions import Prediction, check_determined
from jaxflow.solvers import Solver
from jaxflow.spaces import Pixels, Space
from jaxflow.typing import GaussianPath, Keys, Scale, StatefulField, VectorField

ODE: dict[str, Callable[[GaussianPath], Solver]] = {
    "euler": lambda path: solvers.euler(),
    "midpoint": lambda path: solvers.midpoint(),
    "heun": lambda path: solvers.heun(),
    "rk4": lambda path: solvers.rk4(),
    "adams_bashforth2": lambda path: solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m,
    "dpm_solver_3m": solvers.dpm_solver_3m,
    "unipc": solvers.unipc,
}
"""Solvers of the ODE."""
ONE_STEP = ("euler", "midpoint", "heun", "rk4")
"""Those that churn goes with."""
SDE: dict[str, Callable[[Any], Solver]] = {
    "euler_maruyama": solvers.euler_maruyama,
    "stochastic_heun": solvers.stochastic_heun,
}
"""Solvers of the SDE with the same marginals, made from sigma."""
ANCESTRAL: dict[str, dict[str, Any]] = {
    "ddpm": {"eta": 1.0},
    "ddim": {"eta": 0.0},
    "dpm_solver_2m_sde": {"eta": 1.0, "solver": solvers.dpm_solver_2m},
    "dpm_solver_3m_sde": {"eta": 1.0, "solver": solvers.dpm_solver_3m},
}
"""Ancestral samplers, as `sampling.sample_ddpm` takes them."""
JUMP = "jump"
"""One call of a flow map a step."""
SOLVERS = (*ODE, *SDE, *ANCESTRAL, JUMP)
LOUDEST = 80.0
"""Ratio of noise to data at the start; Karras et al. 2206.00364, table 1, sigma_max."""
MOST_STEPS = 100_000
"""Far beyond any sampler of images: DDPM takes 1,000."""
MOST = 2**16
"""Images in one call of the network."""
LARGEST_SIGMA = 1000.0
LARGEST_SHIFT = 1000.0
"""And 1 / LARGEST_SHIFT is the smallest: beyond them float32 has no distinct times left."""
GRIDS: dict[str, Callable[[int, GaussianPath], Float[Array, " steps"]]] = {
    "uniform": lambda n, path: times.uniform(n),
    "cosine": lambda n, path: times.cosine(n),
    "karras": times.karras,
    "exponential": times.exponential,
    "beta": lambda n, path: times.beta_quantiles(n),
}


CLIPS: dict[str, Callable[[Any, GaussianPath], Any]] = {
    "static": fields.clipped,
    "dynamic": fields.dynamically_thresholded,
}
"""Limits of the predicted data."""


@dataclass(frozen=True)
class Sampler:
    """A solver and its time grid; the defaults depend on what the network predicts."""

    steps: int = 10
    """Solver steps."""
    solver: str | None = None
    """Of the ODE: euler, midpoint, heun, rk4, adams_bashforth2, dpm_solver_2m, dpm_solver_3m, unipc; of the
    SDE: euler_maruyama, stochastic_heun; ancestral: ddpm, ddim, dpm_solver_2m_sde, dpm_solver_3m_sde. The
    default is heun, dpm_solver_2m if the network predicts noise, score or data, and euler_maruyama if sigma
    is not 0."""
    grid: str | None = None
    """Time grid: uniform, cosine (dense at both ends), karras (uniform in sigma^(1/7)), exponential (uniform
    in log sigma) or beta (quantiles of a beta distribution, dense at both ends). The default is uniform, and
    karras if the network predicts noise or score on a path without a table."""
    shift: float | None = None
    """Shift of the grid towards the noise; above 1 for larger images. The default is the model's: that of a
    published flow, 1 otherwise."""
    block: int | None = None
    """Images sampled by one call of the program; if omitted, as many as fit into memory, at most 256."""
    churn: float = 0.0
    """Noise that EDM adds before steps of euler, midpoint, heun or rk4, its S_churn, about 40; 0 for none."""

    clip: str | None = None
    """Limit of the predicted data of a model of pixels: static, to [-1, 1], or dynamic, to the quantile 0.995
    of their sizes and scaled back. If omitted, none."""
    interval: tuple[float, float] | None = None
    """Start and end of the times that are guided, by whatever rule; outside, the scale is 1. If omitted, all
    times."""

    def check(self, path: GaussianPath, prediction: Prediction, sigma: float = 0.0) -> None:
        """Raise a ValueError that names the first unusable option; nothing is computed."""
        ranges.at_least(1, MOST_STEPS, steps=self.steps)
        if self.shift is not None:
            ranges.positive(shift=self.shift)
            within = f"must be from {1 / LARGEST_SHIFT:g} to {LARGEST_SHIFT:g}"
            ranges.check(lambda v: (v >= 1 / LARGEST_SHIFT) & (v <= LARGEST_SHIFT), within, shift=self.shift)
        ranges.not_negative(sigma=sigma)
        ranges.check(lambda v: v <= LARGEST_SIGMA, f"must be at most {LARGEST_SIGMA:g}", sigma=sigma)
        if self.block is not None:
            ranges.at_least(1, MOST, block=self.block)
        _chosen("grid", self._grid_name(path, prediction), GRIDS)
        name = self.solver_name(prediction, sigma)
        _chosen("solver", name, SOLVERS)
        ranges.not_negative(churn=self.churn)
        if self.churn and name not in ONE_STEP:
            raise ValueError(f"churn = {self.churn:g}: goes with {', '.join(ONE_STEP)}, not with {name!r}")
        if self.clip is not None:
            _chosen("clip", self.clip, CLIPS)
            if name == JUMP:
                raise ValueError(f"clip = {self.clip!r}: a map jumps and predicts no data; choose a solver")
        if self.interval is not None:
            start, end = self.interval
            given = f"interval = {start:g} {end:g}"
            if not 0 <= start < end <= 1:
                raise ValueError(f"{given}: must be a start and a later end within [0, 1]")
            if name == JUMP and not start <= 0.5 <= end:
                raise ValueError(f"{given}: a map was trained for intervals that contain 0.5")
        if sigma and name not in SDE:
            raise ValueError(
                f"sigma = {sigma:g}: {name!r} is not a solver of the SDE; use one of {', '.join(SDE)}"
            )
        if (prediction == "data" or self.clip) and self._looks_ahead(name, path):
            others = (other for other in SOLVERS if not self._looks_ahead(other, path))
            raise ValueError(
                f"solver = {name!r}: it evaluates the velocity at t = 1, where the"
                f" {'data prediction leaves' if prediction == 'data' else 'clipped data leave'} it undefined;"
                f" use one of {', '.join(others)}"
            )

    def scale(self, w: Scale) -> Scale:
        """The guidance scale as a function of time, if an interval is guided; 1 stays the number."""
        return w if self.interval is None or is_number(w, 1) else interval(w, *self.interval)

    def check_clip(self, space: Space) -> None:
        """Raise a ValueError if the events have no bounds to which the predicted data could be clipped."""
        if self.clip is not None and not isinstance(space, Pixels):
            raise ValueError(f"clip = {self.clip!r}: for models of pixels, and the events are latents")

    def limited(self, field: AnyField, path: GaussianPath) -> AnyField:
        """The field with its predicted data limited by `clip`."""
        return field if self.clip is None else CLIPS[self.clip](field, path)

    def check_edit(self, prediction: Prediction, sigma: float = 0.0) -> None:
        """Raise a ValueError if the solver cannot edit a picture, which takes an ODE."""
        name = self.solver_name(prediction, sigma)
        if name not in ODE:
            raise ValueError(f"solver = {name!r}: cannot edit a picture; use one of {', '.join(ODE)}")
        if self.churn:
            raise ValueError(f"churn = {self.churn:g}: cannot edit a picture; omit it")

    def solver_name(self, prediction: Prediction, sigma: float = 0.0) -> str:
        """The solver chosen, or the default for this sigma."""
        default = "heun" if prediction in ("velocity", "v") else "dpm_solver_2m"
        return ("euler_maruyama" if sigma else default) if self.solver is None else self.solver

    def times(self, path: GaussianPath, prediction: Prediction, shift: float = 1.0) -> Float[Array, " steps"]:
        """The time grid, (steps + 1,), shifted by `shift` if the sampler has none.

        At t = 0, where x is pure noise, predicted noise or score do not determine the data: for such networks
        the grid starts where there is `LOUDEST` times as much noise as data.
        """
        grid = GRIDS[self._grid_name(path, prediction)](self.steps, path)
        shift = shift if self.shift is None else self.shift
        grid = grid if shift == 1 else times.shifted(grid, shift)
        if prediction not in ("noise", "score"):
            return grid
        one = jnp.ones((), grid.dtype)
        return grid.at[0].set(jnp.minimum(time_of(path, one, LOUDEST * one), grid[1] / 2))

    def _grid_name(self, path: GaussianPath, prediction: Prediction) -> str:
        # The last inner time of karras is 0.998: beyond the least noise in a table, and where networks that
        # predict data are hardly trained (docs/results.md, MNIST).
        is_karras = prediction in ("noise", "score") and not isinstance(path, DDPM) and self.solver != JUMP
        default = "karras" if is_karras else "uniform"
        return default if self.grid is None else self.grid

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
    churn: float = 0.0,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Integrate from `noise` to data by the solver of this name; only the SDE has a sigma, the ODE churn.

    Returns:
        (b, *event), or with `trajectory` the points at all times of the grid, (steps + 1, b, *event).
    """
    points: Any = {"trajectory": trajectory}
    if solver in SDE:
        return sampling.sample_sde(keys, field, path, noise, grid, sigma=sigma, solver=SDE[solver], **points)
    if solver in ANCESTRAL:
        return sampling.sample_ddpm(keys, field, path, noise, grid, **ANCESTRAL[solver], **points)
    method = ODE[solver](path)
    if churn:
        points |= {"churn": churn, "solver": method}
        return sampling.sample_churned(keys, field, path, noise, grid, **points)
    return sampling.sample_ode(field, noise, grid, solver=method, **points)


def check_grid(
    solver: str, path: GaussianPath, times: Float[Array, " steps"], clip: str | None = None
) -> None:
    """Raise a ValueError if times coincide in float32, or solver or clip of this name cannot take them."""
    if not np.all(np.diff(times) > 0):
        raise ValueError(
            f"steps = {len(times) - 1}: some times of the grid coincide in float32; take fewer steps, the"
            " uniform grid, or a shift closer to 1"
        )
    make = ODE.get(solver, solvers.ancestral if solver in ANCESTRAL else None)  # all of these need the data
    if make is not None:
        make(path).check(times)
    if clip is not None:
        check_determined(path, times, "data")


def _chosen(option: str, name: str, choices: Iterable[str]) -> None:
    if name not in choices:
        raise ValueError(f"{option} = {ranges.quoted(name)}: must be one of {', '.join(choices)}")
