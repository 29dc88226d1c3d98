"""Internal guidance: away from what an auxiliary head in the middle of the same network predicts.

    u~ = (1 - w) u_auxiliary(x | y) + w u(x | y)

Both are outputs of one call, so that it costs no more than the conditional model. The head sees the first few
blocks only, and has been trained beside the network: it is a worse model as autoguidance needs one.

Source: Zhou et al. 2512.24176, who take w = 1.4 for SiT-XL, in an interval of t, and guide the result by
classifier-free guidance with 1.35.
"""

from jaxtyping import Array

from jaxflow.guidance.affine import affine, alone, cheapest
from jaxflow.guidance.scales import check, is_number
from jaxflow.per_example import check_shape
from jaxflow.typing import Condition, GuidedField, PairedField, Rule, Scale, VectorField


def internal(outputs: PairedField) -> Rule:
    """u~ = (1 - w) u_auxiliary(x | y) + w u(x | y), where the worse model is a head of the network itself.

    The rule's null is not used. One call with b examples.

    Args:
        outputs: (x, t, y) -> (auxiliary, final), by `fields.with_auxiliary`; the final one is the field.

    Raises:
        ValueError: from the rule: w is not finite, or, while tracing, an output does not have the shape of x.

    >>> import jax.numpy as jnp
    >>> outputs = lambda x, t, y: (-0.5 * x, -x)
    >>> final = lambda x, t, y: outputs(x, t, y)[1]
    >>> internal(outputs)(final, jnp.array([0]), jnp.array(1), 2.0)(jnp.ones((1, 1)), jnp.zeros(1)).item()
    -1.5
    """

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        return cheapest(w, alone(extrapolated(outputs, w), y), at_1=alone(field, y))

    return rule


def extrapolated(outputs: PairedField, w: Scale) -> GuidedField:
    """The field (x, t, y) -> (1 - w) u_auxiliary(x | y) + w u(x | y), for another rule to guide further.

    `classifier_free(extrapolated(outputs, 1.4), y, null, 1.35)` is the combination of the paper, by one call
    with 2b examples.

    Args:
        outputs: as of `internal`.
        w: a number or a function of t; or one number per example, if the rule calls the field with no others.

    Raises:
        ValueError: w is not finite; or, while tracing, an output does not have the shape of x.

    >>> import jax.numpy as jnp
    >>> field = extrapolated(lambda x, t, y: (-0.5 * x, -x), 2.0)
    >>> field(jnp.ones((1, 1)), jnp.zeros(1), jnp.array([0])).item()
    -1.5
    """
    check(w)

    def field(x: Array, t: Array, y: Condition) -> Array:
        auxiliary, final = (check_shape(value, x) for value in outputs(x, t, y))
        return final if is_number(w, 1) else affine(auxiliary, final, w, t)

    return field
