"""One number, one null condition or one random key for each example of a batch.

The randomness of example i comes from `fold_in(key, i)`: what an example gets depends
neither on the size of the batch that it is in nor on the number of devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from jaxflow.typing import Condition, Keys, StatefulField

Times = Float[Array, " b"] | Float[Array, ""] | float | int
"""One time for each example, or one for all."""


def times(t: Times, x: Shaped[Array, "b *event"]) -> Float[Array, " b"]:
    """The time of each example of `x`, (b,), in float32 or wider.

    >>> times(0.5, jnp.ones((2, 3))).tolist()
    [0.5, 0.5]
    """
    return jnp.broadcast_to(t if isinstance(t, jax.Array) else jnp.asarray(t, float), x.shape[:1])


def expand(value: Shaped[Array, "..."] | float | int, x: Shaped[Array, "b *event"]) -> Array:
    """Give a scalar or a (b,) array the rank and dtype of `x`, so that the two multiply."""
    value = jnp.asarray(value, x.dtype)
    return value if value.ndim == 0 else value.reshape(value.shape + (1,) * (x.ndim - 1))


def null_like(y: Condition, null: Condition) -> Condition:
    """`null` for each example of y; a null with a leading axis of examples is kept as it is."""

    def fill(leaf, nothing):
        return jnp.broadcast_to(jnp.asarray(nothing, leaf.dtype), leaf.shape)

    return jax.tree.map(fill, y, null)


def keys(key: Keys, n: int) -> Key[Array, " b"]:
    """Key of each of n examples, (n,): `fold_in(key, i)`. An array of n keys is kept as it is."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(f"key has the dtype {key.dtype}: jax.random.key makes the keys that are needed")
    if key.ndim:
        if key.shape[0] != n:
            raise ValueError(f"{key.shape[0]} keys for {n} examples: one for each is needed, or one for all")
        return key
    return numbered(key, jnp.arange(n))


def numbered(key: Keys, numbers: Int[Array, " b"]) -> Key[Array, " b"]:
    """Keys of the examples with these numbers in a batch, of which others may be on other devices, (b,)."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def normal(keys: Key[Array, " b"], shape: tuple[int, ...], dtype=jnp.float32) -> Float[Array, "b *event"]:
    """Standard normal noise, one key per example: (b, *shape)."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def fold_in(keys: Key[Array, " b"], data: int | Int[Array, ""]) -> Key[Array, " b"]:
    """`jax.random.fold_in` for each key of a batch, with the same number."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)


def answer(value: Shaped[Array, "..."], x: Shaped[Array, "b *event"]) -> Shaped[Array, "b *event"]:
    """`value`, which a field answered at x: one number for each of x, since another shape would broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    if jnp.shape(value) != x.shape:
        raise ValueError(
            f"the field answers {jnp.shape(value)} to x of shape {x.shape}: it must have the shape of x"
        )
    return value


def without_memory(field: Any, remedy: str) -> None:
    """Refuse a field with memory.

    Raises:
        ValueError: it has one; the message ends with the remedy.
    """
    if isinstance(field, StatefulField):
        raise ValueError(f"field = {field.name}: it has memory, from one call to the next; {remedy}")
