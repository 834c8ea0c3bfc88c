"""Says what is wrong with the JSON of a request, field by field, before protobuf's own parser reads it.

That parser names one problem at a time in words about its own classes, and takes some things silently: text that is
no base64, a field under both its names.
"""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass

from headrace_server._json_value import MAX_DEPTH
from headrace_server._violations import escaped, shown

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from headrace_server._violations import Violations

_FREE = frozenset({"google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.ListValue"})
_EXPECTED = {
    "google.protobuf.Timestamp": "must be a time such as 2026-11-24T10:00:00Z",
    "google.protobuf.Duration": 'must be seconds with an s, such as "1.5s"',
    "google.protobuf.FieldMask": 'must be names of fields with commas between them, such as "priority,scheduleTime"',
}
_INTEGERS = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT)
_WORDS = ("NaN", "Infinity", "-Infinity")


def check(data: object, kind: Descriptor, path: str, bad: Violations) -> None:
    """Note in `bad` all that keeps `data` from being a message of this kind. `path`: of the message, "" at the top."""
    if not isinstance(data, dict):
        bad.add(path, f"must be an object; got {_told(data)}")
        return
    names = {field.json_name: field for field in kind.fields} | dict(kind.fields_by_name)
    seen: dict[str, str] = {}
    for name, value in data.items():
        field = names.get(name)
        here = f"{path}.{escaped(name)}" if path else escaped(name)
        if field is None:
            bad.add(here, f"is unknown; there are {', '.join(one.json_name for one in kind.fields) or 'no fields'}")
        elif value is not None or _is_free(field):
            group = field.containing_oneof.name if field.containing_oneof else field.name
            if (other := seen.setdefault(group, name)) != name:
                bad.add(here, f"excludes {other}")
            _field(value, field, here, bad)


def field_of(kind: Descriptor, name: str) -> Field | None:
    """The field of this name, in either spelling."""
    return kind.fields_by_name.get(name) or next((field for field in kind.fields if field.json_name == name), None)


def map_value(field: Field) -> Field | None:
    """What the values of a map are; None where the field is no map."""
    kind = field.message_type
    return kind.fields_by_name["value"] if kind is not None and kind.GetOptions().map_entry else None


def _is_free(field: Field) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _field(value: Any, field: Field, path: str, bad: Violations) -> None:
    inner = map_value(field)
    if inner is not None:
        if not isinstance(value, dict):
            bad.add(path, f"must be an object; got {_told(value)}")
            return
        for key, item in value.items():
            _one(item, inner, f'{path}["{escaped(key)}"]', bad)
    elif field.is_repeated:
        if not isinstance(value, list):
            bad.add(path, f"must be a list; got {_told(value)}")
            return
        for index, item in enumerate(value):
            _one(item, field, f"{path}[{index}]", bad)
    else:
        _one(value, field, path, bad)


def _one(value: Any, field: Field, path: str, bad: Violations) -> None:
    if field.message_type is None:
        problem = _scalar(value, field)
        if problem:
            bad.add(path, f"{problem}; got {_told(value)}")
    elif field.message_type.full_name in _FREE:
        _free(value, field.message_type, path, bad)
    elif field.message_type.full_name in _EXPECTED:
        if not _parses(value, field.message_type):
            bad.add(path, f"{_EXPECTED[field.message_type.full_name]}; got {_told(value)}")
    else:
        check(value, field.message_type, path, bad)


def _scalar(value: Any, field: Field) -> str:
    """What the value must be, "" where it is."""
    kind = field.cpp_type
    if kind == Field.CPPTYPE_BOOL:
        return "" if isinstance(value, bool) else "must be true or false"
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return "" if _is_integer(value, low, high) else f"must be a whole number from {low:,} to {high:,}"
    if kind in _FLOATS:
        return "" if _is_number(value) else "must be a number"
    if field.enum_type is not None:
        names = [one.name for one in field.enum_type.values if one.number]
        known = value in field.enum_type.values_by_name if isinstance(value, str) else _is_integer(value, 0, 2**31 - 1)
        return "" if known else f"must be one of {', '.join(names)}"
    if field.type == Field.TYPE_BYTES:
        return "" if isinstance(value, str) and _is_base64(value) else "must be base64"
    return "" if isinstance(value, str) and _is_unicode(value) else "must be text"


def _free(value: Any, kind: Descriptor, path: str, bad: Violations) -> None:
    if kind.full_name == "google.protobuf.Struct" and not isinstance(value, dict):
        bad.add(path, f"must be an object; got {_told(value)}")
    elif kind.full_name == "google.protobuf.ListValue" and not isinstance(value, list):
        bad.add(path, f"must be a list; got {_told(value)}")
    elif not _is_shallow(value):
        bad.add(path, f"must be at most {MAX_DEPTH} levels deep; send such content as payload or text")


def _is_integer(value: Any, low: int, high: int) -> bool:
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) <= len(str(low)) + len(str(high)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        if value in _WORDS:
            return True
        try:
            value = float(value)
        except ValueError:
            return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_base64(text: str) -> bool:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for one in level
            if isinstance(one, (dict, list))
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def _parses(value: Any, kind: Descriptor) -> bool:
    try:
        json_format.ParseDict(value, GetMessageClass(kind)())
    except (json_format.ParseError, ValueError, TypeError, ArithmeticError, AttributeError):
        return False
    return True


def _told(value: object) -> str:
    """A JSON value as an answer may repeat it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shown(value)
