"""One step of one method, for dx/dt = u(x, t) and for dX = f(X, t) dt + sigma(t) dW.

x, memory = solver.step(field, x, t, t_next, memory, key)
"""

from jaxflow.solvers.checks import check, with_sigma
from jaxflow.solvers.churn import churned
from jaxflow.solvers.multistep import adams_bashforth2, dpm_solver_2m, dpm_solver_3m, unipc
from jaxflow.solvers.one_step import euler, heun, midpoint, rk4, runge_kutta
from jaxflow.solvers.solver import Memory, Sigma, Solver, Step, at, check_sigma
from jaxflow.solvers.stochastic import ancestral, euler_maruyama, stochastic_heun

__all__ = [
    "Memory",
    "Sigma",
    "Solver",
    "Step",
    "adams_bashforth2",
    "ancestral",
    "at",
    "check",
    "check_sigma",
    "churned",
    "dpm_solver_2m",
    "dpm_solver_3m",
    "euler",
    "euler_maruyama",
    "heun",
    "midpoint",
    "rk4",
    "runge_kutta",
    "stochastic_heun",
    "unipc",
    "with_sigma",
]
