"""What the attributes of networks may be, as types: names, and numbers within bounds.

The bounds are generous: they keep a made-up configuration, of 10^9 blocks, say, from being built.
"""

import dataclasses
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import flax.linen as linen
from annotated_types import Interval, Len
from pydantic import InstanceOf, TypeAdapter, ValidationError

Depth = Annotated[int, Interval(ge=1, le=1024)]
"""Blocks, one after the other."""
Width = Annotated[int, Interval(ge=1, le=65536)]
"""Channels, or numbers of a vector."""
Widths = Annotated[tuple[Width, ...], Len(1, 16)]
"""Channels at each resolution."""
Switches = Annotated[tuple[bool, ...], Len(0, 16)]
"""For each resolution."""
HeadCount = Annotated[int, Interval(ge=1, le=4096)]
Ratio = Annotated[int, Interval(ge=1, le=64)]
Patch = Annotated[int, Interval(ge=1, le=1024)]
"""Side in pixels."""
Count = Annotated[int, Interval(ge=1, le=10_000_000)]
"""Classes, or words of a vocabulary."""
Modules = Annotated[tuple[InstanceOf[linen.Module], ...], Len(1, 16)]
Rate = Annotated[float, Interval(ge=0, lt=1)]
"""Of dropout."""
Dtype = Literal["float32", "bfloat16"]
"""Compute type."""
TimeFeatures = Literal["sinusoidal", "fourier"]


def check(module: linen.Module) -> None:
    """Refuse attributes that their types do not allow, before anything is compiled.

    Raises:
        ValueError: of the first of them.
    """
    for field in dataclasses.fields(module):
        value, kind = getattr(module, field.name), cast(Any, field.type)
        if get_origin(kind) in (Annotated, Literal):
            try:
                _adapter(kind).validate_python(value, strict=True)
            except ValidationError as error:
                raise ValueError(f"{field.name} = {value!r}: {reason(error)}") from None


def names_of(kind: type[linen.Module]) -> dict[str, tuple[str, ...]]:
    """What each attribute that is a name may be.

    >>> class Example(linen.Module):
    ...     dtype: Dtype = "float32"
    >>> names_of(Example)
    {'dtype': ('float32', 'bfloat16')}
    """
    return {f.name: get_args(f.type) for f in dataclasses.fields(kind) if get_origin(f.type) is Literal}


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def reason(error: ValidationError) -> str:
    """What is wrong, in words that follow `name = value: `."""
    message = error.errors(include_url=False, include_input=False)[0]["msg"]
    return message.replace("Input should", "it should").replace("Tuple should", "it should")
