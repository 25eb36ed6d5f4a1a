"""Checks the types of what an application declares, because a wrong one would be noticed only by the worker."""

import dataclasses
import functools
import types
import typing
from typing import Literal, Union, cast

from pg_semantic import errors

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


def require(declared: "DataclassInstance", of: str) -> None:
    """Checks that each field of a dataclass has a value of its declared type.

    Args:
        declared: The instance.
        of: What the error message calls it.

    Raises:
        errors.DeclarationError: A value has another type.
    """
    for name, hint in _hints(type(declared)).items():
        value = getattr(declared, name)
        if not _fits(value, hint):
            raise errors.DeclarationError(f"{of}: {name}={value!r} has the wrong type: pass {_words(hint)}.")


@functools.cache
def _hints(kind: type["DataclassInstance"]) -> dict[str, object]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: object, hint: object) -> bool:
    of, parts = typing.get_origin(hint), typing.get_args(hint)
    if of in {Union, types.UnionType}:
        return any(_fits(value, part) for part in parts)
    if of is Literal:
        return isinstance(value, str) and value in parts
    if of is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else cast("type[object]", hint))


def _words(hint: object) -> str:
    of, parts = typing.get_origin(hint), typing.get_args(hint)
    if of in {Union, types.UnionType}:
        return " or ".join(_words(part) for part in parts)
    if of is Literal:
        return " or ".join(parts)
    if of is tuple:
        return f"a tuple of {_words(parts[0])}"
    return "None" if hint is types.NoneType else cast("type[object]", hint).__name__
