"""Messages as JSON Schema, as proto3 JSON writes and reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor as Field

from headrace_server.http.json_check import map_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.protobuf.descriptor import Descriptor, EnumDescriptor

    Schema = dict[str, Any]

PACKAGE = "headrace.v1."
_SCALARS: dict[int, Schema] = {
    Field.CPPTYPE_BOOL: {"type": "boolean"},
    Field.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    Field.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    Field.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    Field.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
    Field.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    Field.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.CPPTYPE_STRING: {"type": "string"},
}
_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["1.5s"]},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Value": {},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}


class Schemas:
    """The schemas that a document refers to, gathered while it is written."""

    def __init__(self, comments: dict[str, str]) -> None:
        self.all: dict[str, Schema] = {}
        self._comments = comments

    def comment(self, full_name: str) -> str:
        """The comment of something in the contract, "" where it has none."""
        return self._comments.get(full_name, "")

    def message(self, kind: Descriptor) -> Schema:
        """A reference to the message."""
        if kind.full_name in _KNOWN:
            return dict(_KNOWN[kind.full_name])
        name = kind.full_name.removeprefix(PACKAGE)
        if name not in self.all:
            self.all[name] = {}  # so that a message within itself ends here
            self.all[name] = self.object(kind)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, kind: Descriptor, *, without: Collection[str] = ()) -> Schema:
        """The message itself, without some of its fields."""
        fields = [field for field in kind.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field) for field in fields},
            "additionalProperties": False,
        }
        return _described(schema, self.comment(kind.full_name))

    def field(self, field: Field) -> Schema:
        """The value of a field, with its comment."""
        group = field.containing_oneof
        comment = self.comment(field.full_name)
        if group is not None and len(group.fields) > 1:
            others = ", ".join(other.json_name for other in group.fields if other is not field)
            comment = f"{comment} Excludes {others}.".strip()
        return _described(self._value(field), comment)

    def _value(self, field: Field) -> Schema:
        value = map_value(field)
        if value is not None:
            return {"type": "object", "additionalProperties": self._one(value)}
        return {"type": "array", "items": self._one(field)} if field.is_repeated else self._one(field)

    def _one(self, field: Field) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == Field.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return dict(_SCALARS[field.cpp_type])

    def _enum(self, kind: EnumDescriptor) -> Schema:
        name = kind.full_name.removeprefix(PACKAGE)
        if name not in self.all:
            values = [f"{one.name}: {self.comment(f'{kind.full_name}.{one.name}')}" for one in kind.values]
            comment = "\n\n".join([self.comment(kind.full_name), *values])
            self.all[name] = _described({"type": "string", "enum": [one.name for one in kind.values]}, comment)
        return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Schema, comment: str) -> Schema:
    return {**schema, "description": comment} if comment else schema
