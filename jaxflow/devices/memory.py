"""How much memory there is, and how much a function needs, from the program that JAX traces."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import psutil
from jax.extend.core import ClosedJaxpr, Jaxpr


def of_host() -> int:
    """Bytes of memory of this machine."""
    return psutil.virtual_memory().total


def memory() -> int:
    """Bytes of memory of a device of this process; on a CPU, of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", of_host()))


def largest_array(function: Callable[..., Any], *args: Any) -> int:
    """Bytes of the largest array that the function allocates; nothing is computed.

    Args:
        function: of arrays.
        args: its arguments, or their shapes as `jax.ShapeDtypeStruct`.
    """
    return max(_sizes(jax.make_jaxpr(function)(*args)), default=0)


def _sizes(program: Jaxpr | ClosedJaxpr) -> Iterator[int]:
    for equation in program.eqns:
        for made in (variable.aval for variable in equation.outvars):
            dtype = getattr(made, "dtype", None)
            if dtype is not None and not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
                yield math.prod(getattr(made, "shape", ())) * np.dtype(dtype).itemsize
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, Jaxpr | ClosedJaxpr):
                    yield from _sizes(item)
