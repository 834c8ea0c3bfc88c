"""From an HTTP request to the message of a call: fields from the path, the query and the JSON body."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass

from headrace_server._violations import Violations, escaped, shown
from headrace_server.http.json_check import check, field_of, map_value
from headrace_server.http.refusals import BadJson

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from headrace_server.http.routes import Route

_MAX_DIGITS = 308
_MAX_PARAMETERS = 200


def message_of(route: Route, fields: dict[str, str], query: str, body: bytes) -> Message:
    """The request of the route's method. `fields` are those of the path. Raises BadJson, InvalidRequest."""
    kind = route.method.input_type
    bad = Violations()
    data = _body(route, body)
    for name, value in _parameters(query, bad):
        _put(data, name, value, kind, bad, allowed=route.body != "*")
    for name, value in fields.items():
        _put(data, name, value, kind, bad, allowed=True)
    check(data, kind, "", bad)
    bad.check()
    message: Message = GetMessageClass(kind)()
    try:
        json_format.ParseDict(data, message)
    except (json_format.ParseError, ValueError, TypeError, ArithmeticError, RecursionError):
        raise BadJson(f"the request is not a valid {kind.full_name}") from None
    return message


def loads(body: bytes) -> Any:
    """The JSON text as Python values. Raises BadJson, with the place where it stops being JSON."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from None
    try:
        return json.loads(
            text, parse_constant=_constant, parse_int=_integer, parse_float=_float, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadJson(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise BadJson("the body is nested too deep") from None


def _body(route: Route, body: bytes) -> dict[str, Any]:
    if not route.body:
        if body:
            raise BadJson("this route takes no body; its parameters are in the query, such as ?pageSize=10")
        return {}
    if not body:
        if route.body == "*":
            return {}
        raise BadJson(f"the body is empty; it must be the JSON of {route.body}")
    data = loads(body)
    if route.body != "*":
        return {route.body: data}
    if not isinstance(data, dict):
        raise BadJson("the body must be a JSON object, such as {}")
    return data


def _parameters(query: str, bad: Violations) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        bad.add("query", f"must be name=value pairs in UTF-8, at most {_MAX_PARAMETERS}; got {shown(query)}")
        return []


def _put(data: dict[str, Any], path: str, text: str, kind: Descriptor, bad: Violations, *, allowed: bool) -> None:
    """Set the field at a dotted path, such as `filter.labels.team`, to a text of the query or the path."""
    name, _, rest = path.partition(".")
    field = field_of(kind, name)
    if not allowed or field is None:
        bad.add(escaped(path), "is no parameter of this route")
    elif map_value(field) and rest:
        _set(data.setdefault(name, {}), rest, text, path, bad)
    elif field.is_repeated and not rest and not map_value(field):
        data.setdefault(name, []).append(_value(text, field))
    elif not rest:
        _set(data, name, _value(text, field), path, bad)
    elif field.message_type is None:
        bad.add(escaped(path), f"is no parameter of this route; {name} has no fields")
    else:
        _put(data.setdefault(name, {}), rest, text, field.message_type, bad, allowed=True)


def _set(data: dict[str, Any], name: str, value: Any, path: str, bad: Violations) -> None:
    if name in data:
        bad.add(escaped(path), "is given twice")
    data[name] = value


def _value(text: str, field: Field) -> Any:
    """The text as JSON would have it; what it cannot be is left for the check to name."""
    if field.cpp_type == Field.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    if field.cpp_type == Field.CPPTYPE_ENUM and text.isdecimal():
        return _integer(text)
    return text


def _constant(text: str) -> NoReturn:
    raise BadJson(f"the body is not JSON: {text} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise BadJson(f"a number has {len(text)} digits; at most {_MAX_DIGITS}, send such content as text")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJson(f"{shown(text)} is too large for a number; send such content as text")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJson(f"the key {shown(twice)} is there twice in one object")
    return found
