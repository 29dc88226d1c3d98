"""Compiler options of a training step: on a CPU, the library that multiplies matrices.

Of XLA's libraries, oneDNN is the fastest for the gradients of dense layers, which by default go to Eigen, and
in bfloat16 the only one that uses a CPU's matrix units. It is an experimental option, measured with JAX 0.12;
delete this module once it is XLA's default.

- In JAX 0.10 and 0.11 some programs fail to compile with it.
- Deleting a program right after it ran may abort the process. So it is for programs that are kept, such as a
  training step, and not for all.
"""

import os
import platform

import jax

ONEDNN: dict[str, bool | str] = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def options(target: str | None = None) -> dict[str, bool | str]:
    """Options for `jax.jit(step, compiler_options=options())`.

    Empty except with JAX 0.12 for the CPU of a Linux x86-64 machine. Also empty if XLA_FLAGS mention oneDNN:
    `XLA_FLAGS=--xla_cpu_use_onednn=false` restores the default.

    Args:
        target: platform of the devices that the program is for: cpu, gpu or tpu; if None, JAX's default.
    """
    known = (0, 12) <= jax.__version_info__ < (0, 13)
    machine = platform.system(), platform.machine(), target or jax.default_backend()
    named = "onednn" in os.environ.get("XLA_FLAGS", "")
    return ONEDNN if known and machine == ("Linux", "x86_64", "cpu") and not named else {}
