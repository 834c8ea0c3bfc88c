"""Between google.protobuf.Value and JSON text, without changing a number.

A Value holds every number as a double. On the way in, an integer that a double cannot hold exactly was changed before
it reached the server, so it is refused. On the way out, content whose numbers would change is not shown as a Value.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.struct_pb2 import NULL_VALUE, Value

from headrace_server._violations import escaped

if TYPE_CHECKING:
    from headrace_server._violations import Violations

MAX_EXACT = 2**53 - 1
"""Largest integer up to which a double holds every integer."""
MAX_READABLE = 128 * 1024
"""Characters of JSON text up to which it is shown as a Value, up to 6 times as large and 0.4 ms a KiB to make."""
MAX_DEPTH = 30
"""Levels of JSON up to which it is shown as a Value: each takes 3 levels of protobuf, and parsers stop at 100."""

_Path = tuple[Any, ...]  # linked from the leaf to the root: (path above, key or index)


class _BadNumber(Exception):
    """A number, or the lack of a value, that JSON text cannot carry."""

    def __init__(self, path: _Path, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


class _NotExact(Exception):
    """A Value would not say exactly what the text says."""


def to_json(value: Value, *, field: str, bad: Violations) -> bytes:
    """The value as compact JSON text in UTF-8, keys sorted, so that equal values have equal texts however their maps
    were ordered on the wire. What cannot be told exactly is noted in `bad` under its path inside `field`.
    """
    try:
        plain = _plain(value, ())
    except _BadNumber as error:
        bad.add(field + _rendered(error.path), error.problem)
        return b""
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def _plain(value: Value, path: _Path) -> object:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return _number(value.number_value, path)
    if kind == "struct_value":
        return {key: _plain(item, (path, key)) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item, (path, index)) for index, item in enumerate(value.list_value.values)]
    if kind == "bool_value":
        return value.bool_value
    if kind == "null_value":
        return None
    raise _BadNumber(path, "has no value; JSON's null is null_value")


def _number(number: float, path: _Path) -> int | float:
    if not math.isfinite(number):
        raise _BadNumber(path, f"must be a finite number; got {number}")
    if not number.is_integer() or (number == 0 and math.copysign(1, number) < 0):
        return number  # -0.0 is no integer: 0 has no sign
    if abs(number) > MAX_EXACT:
        raise _BadNumber(
            path,
            f"must be from -(2^53-1) to 2^53-1, or it was rounded on its way; got {number:.0f}. "
            "Send such content as payload",
        )
    return int(number)


def _rendered(path: _Path) -> str:
    parts: list[str] = []
    while path:
        path, key = path
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif key.isidentifier() and key.isascii():
            parts.append(f".{escaped(key)}")
        else:
            parts.append(f'["{escaped(key)}"]')
    return "".join(reversed(parts))


def from_json(text: str) -> Value | None:
    """The JSON text as a Value, or None where it is not JSON, or a Value could not say exactly the same."""
    if len(text) > MAX_READABLE:
        return None
    value = Value()
    try:
        plain = json.loads(
            text, parse_int=_exact_int, parse_float=_exact_float, parse_constant=_refuse, object_pairs_hook=_unique
        )
        _fill(value, plain, MAX_DEPTH)
    except (ValueError, ArithmeticError, RecursionError, _NotExact):  # ValueError: no JSON, or a lone surrogate
        return None
    return value


def _fill(value: Value, plain: object, depth: int) -> None:
    if depth == 0:
        raise _NotExact
    if plain is None:
        value.null_value = NULL_VALUE
    elif isinstance(plain, bool):
        value.bool_value = plain
    elif isinstance(plain, (int, float)):
        value.number_value = plain
    elif isinstance(plain, str):
        value.string_value = plain
    elif isinstance(plain, list):
        value.list_value.SetInParent()  # an empty list is a list too
        for item in plain:
            _fill(value.list_value.values.add(), item, depth - 1)
    elif isinstance(plain, dict):
        value.struct_value.SetInParent()
        for key, item in plain.items():
            _fill(value.struct_value.fields[key], item, depth - 1)


def _exact_int(text: str) -> int:
    if len(text) > len(str(-MAX_EXACT)) or abs(number := int(text)) > MAX_EXACT or text == "-0":
        raise _NotExact
    return number


def _exact_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or Decimal(repr(number)) != Decimal(text) or abs(number) > MAX_EXACT:
        raise _NotExact
    return number


def _refuse(_constant: str) -> NoReturn:
    raise _NotExact  # NaN and Infinity are not JSON


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotExact  # a key that is there twice: a Value would keep only one of them
    return found
