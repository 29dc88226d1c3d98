"""Autoguidance: away from a worse model of the same condition."""

from jaxtyping import Array

from jaxflow.guidance import scales
from jaxflow.guidance.affine import affine
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def autoguidance(field: GuidedField, worse: GuidedField, y: Condition, w: Scale) -> VectorField:
    """u~ = (1 - w) u_worse(x | y) + w u(x | y), with a smaller or less trained model as the worse.

    It mends what both get wrong without narrowing the condition. Two calls with b examples, one of
    which falls away where w is the number 0 or 1.

    Raises:
        ValueError: w is not finite.

    Source: Karras et al. 2406.02507, equation 3.
    """
    scales.check(w)
    if scales.is_number(w, 1):
        return lambda x, t: field(x, t, y)
    if scales.is_number(w, 0):
        return lambda x, t: worse(x, t, y)

    def guided(x: Array, t: Array) -> Array:
        return affine(worse(x, t, y), field(x, t, y), w, t)

    return guided
