"""Autoguidance: away from a worse model of the same condition."""

from jaxtyping import Array

from jaxflow.guidance.affine import affine, shortest
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def autoguidance(field: GuidedField, worse: GuidedField, y: Condition, w: Scale) -> VectorField:
    """u~ = (1 - w) u_worse(x | y) + w u(x | y), with a smaller or less trained model as the worse.

    It mends what both get wrong without narrowing the condition. Two calls with b examples, one of
    which falls away where w is 0 or 1, as a number or a function of t.

    Raises:
        ValueError: w is not finite.

    Source: Karras et al. 2406.02507, equation 3.
    """

    def mixed(x: Array, t: Array) -> Array:
        return affine(worse(x, t, y), field(x, t, y), w, t)

    return shortest(w, mixed, at_1=lambda x, t: field(x, t, y), at_0=lambda x, t: worse(x, t, y))
