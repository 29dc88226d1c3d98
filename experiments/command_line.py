"""The numbers of an experiment as options of the command line, by their types and docstrings."""

import ast
import dataclasses
import inspect
import textwrap
from dataclasses import field, replace
from itertools import pairwise
from typing import Annotated, Any

import tyro

from jaxflow.runs import schema


def options_of(name: str, value: Any) -> type:
    """A dataclass of the numbers and texts in `value` and its parts, each with its help text."""
    types, texts, fields = schema.options_of(value), _texts(type(value)), []
    for each in schema.fields_of(type(value)):
        part = getattr(value, each.name)
        if each.name in types:
            kind: Any = Annotated[types[each.name], tyro.conf.arg(help=texts.get(each.name))]
            fields.append((each.name, kind, field(default=part)))
        elif dataclasses.is_dataclass(part):
            kind = options_of(each.name.title(), part)
            fields.append((each.name, kind, field(default_factory=kind)))
    made = dataclasses.make_dataclass(name, fields, frozen=True, kw_only=True)
    made.__doc__ = type(value).__doc__  # where a module documents its attributes
    return made


def with_options(value: Any, options: Any) -> Any:
    """`value` with the options instead of its numbers."""
    given = {each.name: getattr(options, each.name) for each in dataclasses.fields(options)}
    changed = {
        name: with_options(getattr(value, name), option) if dataclasses.is_dataclass(option) else option
        for name, option in given.items()
    }
    return replace(value, **changed) if changed else value


def _texts(kind: type) -> dict[str, str]:
    """The docstring below each field of a class, its own or inherited."""
    return {name: text for each in reversed(kind.__mro__) for name, text in _own_texts(each).items()}


def _own_texts(kind: type) -> dict[str, str]:
    try:
        (made,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):  # a class made by a program
        return {}
    assert isinstance(made, ast.ClassDef)
    return {
        one.target.id: " ".join(str(text.value.value).split())
        for one, text in pairwise(made.body)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
