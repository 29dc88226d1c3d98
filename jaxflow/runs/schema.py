"""Configurations as JSON: dataclasses and Flax modules with the names of their classes, validated by type.

The annotations of a class state the values of its fields,

    depth: Annotated[int, Interval(ge=1, le=1024)]      dtype: Literal["float32", "bfloat16"]

and pydantic validates a file against them: a crafted or damaged one is rejected in bounded time, and the
error names the field. Only the classes in `CLASSES`, and those that the caller passes, are instantiated.
"""

import dataclasses
import json
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Never, Union, get_args, get_origin, get_type_hints

import flax.linen as linen
import jax
from pydantic import ConfigDict, TypeAdapter, ValidationError

from jaxflow import nn, paths, spaces
from jaxflow.data.codecs import Captions, Classes
from jaxflow.nn import attributes
from jaxflow.ranges import quoted
from jaxflow.runs.frozen_text import FrozenText

CLASSES: tuple[type, ...] = (
    *(Classes, Captions, FrozenText, nn.DiT, nn.UNet, nn.LabUNet),
    *(
        spaces.Pixels,
        spaces.Latents,
        spaces.Autoencoder,
        nn.AutoencoderKL,
        nn.AutoencoderTiny,
        nn.CausalAutoencoder,
        nn.Discriminator,
    ),
    *(nn.ClassTable, nn.VectorMLP, nn.TextEncoder, nn.TokenProjection, nn.CompositeEncoder, nn.JumpEncoder),
    *(paths.Cosine, paths.Linear, paths.SquareRoot, paths.VariancePreserving),
)
"""Classes that a configuration may always contain."""
DEEPEST = 8
"""Nested objects."""
LONGEST = 1000
"""Characters of a string: class names, words of captions, folders."""
LARGEST = 2**63
"""Of an integer that has no other bounds."""
STRICT = ConfigDict(strict=True, allow_inf_nan=False, str_max_length=LONGEST)


def encode(value: Any, classes: Iterable[type] = ()) -> Any:
    """A dataclass or Flax module as a dictionary that names its class; tuples as lists.

    Raises:
        ValueError: `decode` could not restore something in it.
    """
    known, kind = _known(classes := tuple(classes)), type(value)
    if known.get(kind.__name__) is kind:
        names = [field.name for field in fields_of(kind)]
        return {"class": kind.__name__} | {name: encode(getattr(value, name), classes) for name in names}
    if isinstance(value, tuple):
        return [encode(item, classes) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"{kind.__name__} cannot be written to config.json, which holds numbers, strings, tuples and"
        f" {', '.join(known)}"
    )


def decode(value: Any, kind: type, classes: Iterable[type] = ()) -> Any:
    """The inverse of `encode`.

    Args:
        value: as parsed from JSON.
        kind: the expected class.
        classes: allowed besides `CLASSES`.

    Raises:
        ValueError: the value does not describe one; the message names the field.
    """
    return _value(kind, value, _known((*classes, kind)), "", 0)


def classes_in(value: Any) -> Iterator[type]:
    """The classes in a configuration, outermost first, as `decode` needs them."""
    if isinstance(value, tuple):
        for item in value:
            yield from classes_in(item)
    elif dataclasses.is_dataclass(value):
        yield type(value)
        for field in fields_of(type(value)):
            yield from classes_in(getattr(value, field.name))


def fields_of(kind: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that count in a comparison, or the attributes of a Flax module."""
    hidden = ("parent", "name") if issubclass(kind, linen.Module) else ()
    return [field for field in dataclasses.fields(kind) if field.compare and field.name not in hidden]


def options_of(value: Any) -> dict[str, Any]:
    """The type of each field of a dataclass or module that takes numbers or strings, or tuples of them."""
    found = {}
    for field in fields_of(type(value)):
        plain = _plain(get_type_hints(type(value), include_extras=True)[field.name])
        if plain not in (Never, types.NoneType) and not dataclasses.is_dataclass(getattr(value, field.name)):
            found[field.name] = plain
    return found


def _known(classes: Iterable[type]) -> dict[str, type]:
    known = {kind.__name__: kind for kind in CLASSES}
    for kind in classes:
        if known.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(f"class {kind.__name__}: jaxflow has a class of that name; rename yours")
    return known


def _value(hint: Any, value: Any, known: dict[str, type], where: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError(f"{where}: objects are nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        built = _object(value, known, where, depth)
        if not _is_of(built, hint):
            raise ValueError(f"{_at(where)}{type(built).__name__} is not allowed here")
        return built
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        inner = next((get_args(part)[0] for part in _parts(hint) if get_origin(part) is tuple), Never)
        return tuple(_value(inner, item, known, f"{where}[{i}]", depth + 1) for i, item in enumerate(value))
    plain = _plain(hint)
    if plain is Never:
        raise ValueError(f"{where} = {quoted(value)}: must be an object with a class")
    try:
        found = _adapter(plain).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(f"{where} = {quoted(value)}: {attributes.reason(error)}") from None
    except RecursionError:
        raise ValueError(f"{where}: lists are nested too deep") from None
    if isinstance(found, int) and abs(found) > LARGEST:
        raise ValueError(f"{where} = {quoted(found)}: must have at most 64 bits")
    return found


def _object(value: dict[str, Any], known: dict[str, type], where: str, depth: int) -> Any:
    name = value.get("class")
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"{_at(where)}class = {quoted(name)} is unknown; if it is your own, pass it to"
            " jaxflow.load(place, classes=(...)), or its preset as --preset FILE.py"
        )
    kind = known[name]
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields_of(kind)]
    for odd in [*(n for n in names if n not in value), *(n for n in value if n not in (*names, "class"))]:
        raise ValueError(
            f"{_at(where)}{name}.{quoted(odd)[1:-1]} is {'unknown' if odd in value else 'missing'}"
        )
    inside = {n: _value(hints[n], value[n], known, f"{where}.{n}".lstrip("."), depth + 1) for n in names}
    try:
        return kind(**inside)
    except Exception as error:  # a class may raise anything about its own fields
        raise ValueError(f"{_at(where)}{name}: {error}") from None


def _parts(hint: Any) -> list[Any]:
    """The alternatives of a union, without annotations of the whole; anything else is its only one."""
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _is_of(built: Any, hint: Any) -> bool:
    kinds = [part for part in _parts(hint) if isinstance(part, type) and get_origin(part) is None]
    return any(_has_all_of(type(built), kind) for kind in kinds)


def _has_all_of(kind: type, other: type) -> bool:
    """`issubclass`; for a protocol, whether the members exist, without evaluating them, which may be slow."""
    if not getattr(other, "_is_protocol", False):
        return issubclass(kind, other)
    has = {*dir(kind), *(field.name for field in dataclasses.fields(kind))}
    return has >= {name for name in vars(other) if not name.startswith("_")}


@cache
def _plain(hint: Any) -> Any:
    """The part of a type that is numbers, strings or tuples of them; `_object` builds the rest."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        plain = _plain(inner)
        return plain if plain is Never else Annotated[plain, *notes]
    if get_origin(hint) in (Union, types.UnionType):
        kept = [part for part in map(_plain, get_args(hint)) if part is not Never]
        return Union[tuple(kept)] if kept else Never  # noqa: UP007
    if get_origin(hint) is tuple:
        parts = [part if part is Ellipsis else _plain(part) for part in get_args(hint)]
        return Never if Never in parts else tuple[tuple(parts)]  # type: ignore[misc]
    if isinstance(hint, type) and not issubclass(hint, str | int | float | bool | types.NoneType):
        return Never
    return Never if hint in (Any, jax.Array) else hint


@cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint, config=STRICT)


def _at(where: str) -> str:
    return f"{where}: " if where else ""
