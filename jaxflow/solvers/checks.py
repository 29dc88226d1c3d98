"""Errors for what is no solver, which name the one that was meant."""

import inspect
from typing import Any

from jaxflow.solvers import churn, multistep, one_step, stochastic
from jaxflow.solvers.solver import Sigma, Solver

MODULES = (one_step, multistep, stochastic, churn)


def check(solver: Any) -> Solver:
    """`solver`, checked to be one.

    Raises:
        TypeError: it is not a Solver, but a name, say, or a function that makes one.
    """
    if isinstance(solver, Solver):
        return solver
    name = solver if isinstance(solver, str) else getattr(solver, "__name__", "")
    remedy = f"solvers.{name}{_parameters(name)}" if _parameters(name) else "such as solvers.heun()"
    raise TypeError(f"solver = {_describe(solver)}: expected a Solver, {remedy}")


def with_sigma(solver: Any, sigma: Sigma) -> Solver:
    """The stochastic solver `solver(sigma)`.

    Raises:
        TypeError: `solver` is not a function from sigma to a stochastic solver.
    """
    if callable(solver) and len(inspect.signature(solver).parameters):
        method = solver(sigma)
        if isinstance(method, Solver) and method.stochastic and not method.forward_only:
            return method
    raise TypeError(
        f"solver = {_describe(solver)}: expected a function from sigma to a stochastic Solver, such as"
        " solvers.euler_maruyama or solvers.stochastic_heun itself"
    )


def _parameters(name: str) -> str:
    """The parameters of the method of this name, in parentheses; empty if there is no such method."""
    found = (getattr(module, name, None) for module in MODULES if name)
    make = next((function for function in found if function is not None), None)
    if not inspect.isfunction(make) or inspect.signature(make).return_annotation is not Solver:
        return ""
    return f"({', '.join(inspect.signature(make).parameters)})"


def _describe(solver: Any) -> str:
    if isinstance(solver, Solver):
        return solver.name
    return repr(solver) if isinstance(solver, str) else getattr(solver, "__name__", repr(solver))
