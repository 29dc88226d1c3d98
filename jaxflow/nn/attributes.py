"""Types of the networks' attributes: names, and numbers within bounds.

The bounds are generous; they only keep an absurd configuration, of 10^9 blocks say, from being built.
"""

import dataclasses
import re
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import flax.linen as linen
from annotated_types import Interval, Len
from pydantic import InstanceOf, TypeAdapter, ValidationError

Depth = Annotated[int, Interval(ge=1, le=1024)]
"""Number of blocks."""
Width = Annotated[int, Interval(ge=1, le=65536)]
"""Channels, or length of a vector."""
Widths = Annotated[tuple[Width, ...], Len(1, 16)]
"""Channels per resolution."""
Switches = Annotated[tuple[bool, ...], Len(0, 16)]
"""One switch per resolution."""
HeadCount = Annotated[int, Interval(ge=1, le=4096)]
Ratio = Annotated[int, Interval(ge=1, le=64)]
Patch = Annotated[int, Interval(ge=1, le=1024)]
"""Side in pixels."""
Count = Annotated[int, Interval(ge=1, le=10_000_000)]
"""Classes, or size of a vocabulary."""
Modules = Annotated[tuple[InstanceOf[linen.Module], ...], Len(1, 16)]
Rate = Annotated[float, Interval(ge=0, lt=1)]
"""Dropout rate."""
Dtype = Literal["float32", "bfloat16"]
"""Compute type."""
TimeFeatures = Literal["sinusoidal", "fourier"]


def check(module: linen.Module) -> None:
    """Validate a module's attributes against their types, before anything is compiled.

    Raises:
        ValueError: naming the first invalid attribute.
    """
    for field in dataclasses.fields(module):
        value, kind = getattr(module, field.name), cast(Any, field.type)
        if get_origin(kind) in (Annotated, Literal):
            try:
                _adapter(kind).validate_python(value, strict=True)
            except ValidationError as error:
                raise ValueError(f"{field.name} = {value!r}: {reason(error)}") from None


def names_of(kind: type[linen.Module]) -> dict[str, tuple[str, ...]]:
    """The allowed values of each attribute that is a name.

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
    """The requirement that failed, as the text after `name = value: `."""
    message = error.errors(include_url=False, include_input=False)[0]["msg"]
    return re.sub("^(Input|Tuple|List|Set) should", "must", message)
