r"""Couplings: which noise is paired with which data in a batch of training.

Flow matching draws data and noise independently. Any other coupling of the two laws also leads to a field
that carries noise to data. Optimal transport within the batch permutes its noise, by pi, so that

    sum_i |noise_pi(i) - data_i|^2

is least. Paths then cross less, and the field is straighter, the more so the larger the batch. Each noise and
each data point remains, once, so that both laws are as before.

**Given y they are not**: noise that was paired by distance depends on the data, and so on their condition,
while samplers start from noise that is independent of it. The guided model learns to carry p(noise | y) to
p(data | y), and so samples something other than p(data | y). Where y is a class, a coupling within each class
(`groups`) leaves p(noise | y) standard normal; it is optimal among fewer pairs.

Source: Tong et al. 2302.00482, Pooladian et al. 2304.14772; for conditions Cheng and Schwing 2503.10636.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped


def costs(noise: Float[Array, "b *event"], data: Float[Array, "b *event"]) -> Float[Array, "b b"]:
    """-<data_i, noise_j>: half the squared distance, up to terms that all permutations share.

    >>> costs(jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])).tolist()
    [[-3.0, -6.0], [-4.0, -8.0]]
    """
    return -jnp.tensordot(data.reshape(len(data), -1), noise.reshape(len(noise), -1), (1, 1))


def optimal(
    costs: Float[np.ndarray, "b b"], groups: Shaped[np.ndarray, " b"] | None = None
) -> Int[np.ndarray, " b"]:
    """The permutation of least total cost, exactly and on the host: data i is paired with noise pi(i).

    The time grows as b^3 at most: 1 ms for 128 examples, 0.07 s for 1024, measured on one slow core.

    Args:
        costs: of data i with noise j.
        groups: of the examples, such as their classes; noise stays within the group where it was drawn.

    >>> optimal(np.array([[2.0, 1.0], [1.0, 3.0]])).tolist()
    [1, 0]
    >>> optimal(np.array([[2.0, 1.0], [1.0, 3.0]]), groups=np.array([0, 1])).tolist()
    [0, 1]
    """
    from scipy.optimize import linear_sum_assignment  # which most trainings do without

    groups = np.zeros(len(costs), int) if groups is None else groups
    found = np.empty(len(costs), int)
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        rows, columns = linear_sum_assignment(costs[np.ix_(members, members)])
        found[members[rows]] = members[columns]
    return found
