"""What the compiler is told of a training step: which library multiplies its matrices on a CPU.

Of those that XLA brings, oneDNN is the fastest in the gradients of dense layers, which the default leaves to
Eigen; in bfloat16 it alone uses a CPU's matrix units there. It is an experimental option of XLA:

- in JAX 0.10 and 0.11 some programs do not compile with it;
- to delete a program in the instant in which it ends may abort the process. So it is for programs that live
  on, as a training step does, and not for all.
"""

import os
import platform

import jax

ONEDNN: dict[str, bool | str] = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def options() -> dict[str, bool | str]:
    """Options for `jax.jit(step, compiler_options=options())`.

    None but with JAX 0.12 on a Linux x86-64 machine without accelerator, and none where XLA_FLAGS speak of
    oneDNN: `XLA_FLAGS=--xla_cpu_use_onednn=false` leaves all to the default.
    """
    known = (0, 12) <= jax.__version_info__ < (0, 13)
    machine = platform.system(), platform.machine(), jax.default_backend()
    named = "onednn" in os.environ.get("XLA_FLAGS", "")
    return ONEDNN if known and machine == ("Linux", "x86_64", "cpu") and not named else {}
