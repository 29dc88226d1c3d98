"""Attention between tokens, softmax(q k^T / sqrt(d)) v, with one entry point for all devices.

`attend` chooses among `IMPLEMENTATIONS` by the platform that the program is compiled for: XLA's, the fused
kernel of cuDNN, and for CPUs matrix products with heads as a leading axis, the layout that is fast there.
Query, key and value have separate projections, since on a CPU the parts of a joint one would have to be
copied.

Normalisation and softmax are computed in float32 in every compute type.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxflow.devices import mesh
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.dense import Dense

Heads = Float[Array, "b _ heads d"]
Mask = Bool[Array, "b m"]
Implementation = Literal["auto", "matmul", "xla", "cudnn"]


def _matmul(
    query: Array, key: Array, value: Array, *, mask: Array | None, bias: Array | None, scale: float | None
) -> Array:
    query, key, value = (a.swapaxes(1, 2) for a in (query, key, value))
    logits = jnp.matmul(query, key.swapaxes(2, 3), preferred_element_type=jnp.float32)
    logits = logits * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return (weights @ value).swapaxes(1, 2)


IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {
    "matmul": _matmul,
    "xla": partial(jax.nn.dot_product_attention, implementation="xla"),
    "cudnn": partial(jax.nn.dot_product_attention, implementation="cudnn"),
}
"""(query, key, value, *, mask, bias, scale) -> (b, n, heads, d), by the names of `Implementation`."""


def attend(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b m heads d"],
    value: Float[Array, "b m heads d"],
    mask: Mask | Bool[Array, "#b #n m"] | None = None,
    *,
    bias: Float[Array, "heads n m"] | None = None,
    scale: float | None = None,
    implementation: str = "auto",
) -> Float[Array, "b n heads d"]:
    """For each query, the mean of the values weighted by softmax(scale q k^T + bias) over the keys.

    Args:
        query: (b, n, heads, d).
        key: (b, m, heads, d).
        value: (b, m, heads, d).
        mask: which keys to attend to, for all queries (b, m) or for each (b, n, m); at least one. Masked keys
            have no influence.
        bias: added to the logits.
        scale: of the logits; if None, 1 / sqrt(d).
        implementation: by name; `auto` is cuDNN on a GPU in 16 bits without mask and bias, matmul on a CPU,
            XLA otherwise. Under a `jax.vmap` that maps only some operands cuDNN may crash: choose another.

    Raises:
        ValueError: an unknown implementation.
    """
    plain = mask is None and bias is None
    name = _fastest(query, plain) if implementation == "auto" else implementation
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation = {name!r}: must be one of auto, {', '.join(IMPLEMENTATIONS)}")
    if mask is not None:
        mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    if bias is not None:
        bias = bias[None].astype(jnp.float32)
    return IMPLEMENTATIONS[name](query, key, value, mask=mask, bias=bias, scale=scale)


def _fastest(query: Array, plain: bool) -> str:
    platform = mesh.platform()
    # cuDNN supports 16 bits, some head sizes, and no mask with one row for all queries.
    fits = query.dtype in (jnp.bfloat16, jnp.float16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128
    if platform == "gpu" and fits and plain:
        return "cudnn"
    return "matmul" if platform == "cpu" else "xla"


Rotation = Callable[[Heads], Heads]
"""Rotates queries and keys by their position, `embeddings.rotate`."""


class Attention(linen.Module):
    """Multi-head attention, (b, n, c) -> (b, n, c), of tokens to themselves or to other tokens.

    Attributes:
        heads: number of heads; must divide the channels.
        qk_norm: normalise queries and keys, which stabilises large models (Dehghani et al. 2302.05442).
        out_init: initialiser of the output layer.
        dtype: compute type, float32 or bfloat16.
        implementation: of `attend`.
        use_bias: whether queries, keys and values have a bias.
    """

    heads: int
    qk_norm: bool = False
    out_init: linen.initializers.Initializer = linen.initializers.xavier_uniform()
    dtype: Dtype = "float32"
    implementation: str = "auto"
    use_bias: bool = True

    @linen.compact
    def __call__(
        self,
        tokens: Float[Array, "b n c"],
        others: Float[Array, "b m e"] | None = None,
        mask: Mask | None = None,
        rotate: Rotation | None = None,
    ) -> Float[Array, "b n c"]:
        channels = tokens.shape[-1]
        project = partial(
            project_heads, heads=self.heads, channels=channels, use_bias=self.use_bias, dtype=self.dtype
        )
        query = project(tokens, "query", norm=self.qk_norm)
        others = tokens if others is None else others
        key, value = project(others, "key", norm=self.qk_norm), project(others, "value")
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        mixed = attend(query, key, value, mask, implementation=self.implementation)
        out = Dense(channels, kernel_init=self.out_init, dtype=self.dtype, name="out")
        return out(mixed.reshape(tokens.shape))


def project_heads(
    tokens: Float[Array, "b n c"],
    name: str,
    *,
    heads: int,
    channels: int,
    norm: bool = False,
    use_bias: bool = True,
    dtype: Dtype = "float32",
) -> Heads:
    """Project tokens (b, n, c) to heads (b, n, heads, d), by a layer `name` of the calling module.

    With `norm`, a layer `name`_norm normalises each head over d (root mean square, float32).

    Raises:
        ValueError: `heads` does not divide the channels.
    """
    if channels % heads:
        raise ValueError(f"heads = {heads} does not divide the {channels} channels")
    init = linen.initializers.xavier_uniform()
    projected = Dense(channels, kernel_init=init, dtype=dtype, use_bias=use_bias, name=name)(tokens)
    split = projected.reshape(*tokens.shape[:2], heads, channels // heads)
    if not norm:
        return split
    return linen.RMSNorm(name=f"{name}_norm")(split.astype(jnp.float32)).astype(dtype)
