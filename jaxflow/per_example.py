"""Per-example times, null conditions and random keys.

The randomness of example i comes from `fold_in(key, i)`, and so depends neither on the batch size nor on the
number of devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from jaxflow.typing import Condition, Keys, StatefulField

Times = Float[Array, " b"] | Float[Array, ""] | float | int
"""One time per example, or one for all."""


def times(t: Times, x: Shaped[Array, "b *event"]) -> Float[Array, " b"]:
    """Broadcast t to the examples of `x`, (b,), in float32 or wider.

    >>> times(0.5, jnp.ones((2, 3))).tolist()
    [0.5, 0.5]
    """
    return jnp.broadcast_to(t if isinstance(t, jax.Array) else jnp.asarray(t, float), x.shape[:1])


def expand(value: Shaped[Array, "..."] | float | int, x: Shaped[Array, "b *event"]) -> Array:
    """Reshape a scalar or (b,) array to broadcast against `x`, in the dtype of `x`."""
    value = jnp.asarray(value, x.dtype)
    return value if value.ndim == 0 else value.reshape(value.shape + (1,) * (x.ndim - 1))


def null_like(y: Condition, null: Condition) -> Condition:
    """Broadcast `null` to the examples of y; a null that already has an axis of examples is kept."""
    return jax.tree.map(
        lambda leaf, null_leaf: jnp.broadcast_to(jnp.asarray(null_leaf, leaf.dtype), leaf.shape), y, null
    )


def keys(key: Keys, n: int) -> Key[Array, " b"]:
    """One key per example, (n,): `fold_in(key, i)`. An array of n keys is returned as is."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(f"key has the dtype {key.dtype}: expected a typed key from jax.random.key")
    if key.ndim:
        if key.shape[0] != n:
            raise ValueError(f"{key.shape[0]} keys for {n} examples: expected one per example, or one key")
        return key
    return numbered(key, jnp.arange(n))


def numbered(key: Keys, numbers: Int[Array, " b"]) -> Key[Array, " b"]:
    """Keys of the examples with these indices in the global batch, (b,), which a device holds in part."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def split(key: Keys, n: int) -> tuple[Key[Array, " b"], Key[Array, " b"]]:
    """Two keys per example, (n,) each."""
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(keys(key, n)), 1, 0)
    return first, second


def normal(keys: Key[Array, " b"], shape: tuple[int, ...], dtype=jnp.float32) -> Float[Array, "b *event"]:
    """Standard normal noise, one key per example: (b, *shape)."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def fold_in(keys: Key[Array, " b"], data: int | Int[Array, ""]) -> Key[Array, " b"]:
    """`jax.random.fold_in` of the same number into each key of a batch."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)


def check_shape(value: Shaped[Array, "..."], x: Shaped[Array, "b *event"]) -> Shaped[Array, "b *event"]:
    """`value`, which a field returned at x, checked to have the shape of x: any other might broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    if jnp.shape(value) != x.shape:
        raise ValueError(
            f"the field returned shape {jnp.shape(value)} for x of shape {x.shape}: they must be equal"
        )
    return value


def without_memory(field: Any, remedy: str) -> None:
    """Reject a stateful field.

    Raises:
        ValueError: the field is stateful; the message ends with the remedy.
    """
    if isinstance(field, StatefulField):
        raise ValueError(f"field = {field.name}: must not carry memory from call to call; {remedy}")
