"""JSON to frozen dataclasses, each field checked against its annotation and named by its place where it is wrong."""

import dataclasses
import json
import types
import typing
from typing import Any, Literal

__all__ = ["parse"]


def parse(kind: Any, text: str, what: str) -> Any:
    """The `kind`, a dataclass, that `text` holds; a field that has a default may be missing.

    `what` names the thing in errors. Raises ValueError for text that is no JSON, for missing and unknown fields and
    for values of another type.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the {what} isn't JSON ({error}).") from error
    return _build(kind, tree, what, "")


def _build(kind: Any, value: Any, what: str, where: str) -> Any:
    """`value`, as JSON gives it, as an instance of `kind`. `where` is its dotted place in the file."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, what, where)
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in arguments:
            return value
    elif origin in (typing.Union, types.UnionType):
        inner = [option for option in arguments if dataclasses.is_dataclass(option)]
        if len(inner) == 1 and isinstance(value, dict):
            return _build_dataclass(
                inner[0], value, what, where
            )  # so that its field is named, if one is wrong
        for option in arguments:
            try:
                return _build(option, value, what, where)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(arguments) == len(value):
            pairs = zip(arguments, value, strict=True)
            return tuple(_build(item, v, what, f"{where}[{i}]") for i, (item, v) in enumerate(pairs))
    elif origin is dict and isinstance(value, dict):
        return {name: _build(arguments[1], item, what, f"{where}.{name}") for name, item in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    elif kind in (None, type(None)) and value is None:
        return None
    name = kind.__name__ if isinstance(kind, type) and not arguments else str(kind).replace("typing.", "")
    raise ValueError(f"{what} {where} is {value!r} and must be {name}.")


def _build_dataclass(kind: Any, value: Any, what: str, where: str) -> Any:
    place = f"{what} {where}" if where else f"the {what}"
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {value!r} and must be an object of {kind.__name__}'s fields.")
    fields = dataclasses.fields(kind)
    known = {field.name for field in fields}
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    missing, unknown = sorted(needed - value.keys()), sorted(value.keys() - known)
    if missing or unknown:
        parts = [
            f"{word} {', '.join(keys)}"
            for word, keys in (("lacks", missing), ("has unknown", unknown))
            if keys
        ]
        raise ValueError(f"{place} {' and '.join(parts)}: it must have {kind.__name__}'s fields.")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    built = {
        name: _build(hints[name], value[name], what, prefix + name) for name in sorted(known & value.keys())
    }
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{place}: {error}" if where else str(error)) from error
