"""The comments of the contract, which Python's descriptors have lost: from the descriptors as protoc wrote them."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

    Path = tuple[int, ...]

_FILE = descriptor_pb2.FileDescriptorProto
_MESSAGE = descriptor_pb2.DescriptorProto


def comments() -> dict[str, str]:
    """Full name of a message, field, enum, value, service or method → its comment, in one paragraph."""
    packed = (files("headrace.v1") / "descriptors.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        told = {tuple(one.path): " ".join(one.leading_comments.split()) for one in file.source_code_info.location}
        found.update((name, told[path]) for name, path in _in_file(file) if told.get(path))
    return found


def _in_file(file: FileDescriptorProto) -> Iterator[tuple[str, Path]]:
    for index, message in enumerate(file.message_type):
        yield from _in_message(message, file.package, (_FILE.MESSAGE_TYPE_FIELD_NUMBER, index))
    for index, enum in enumerate(file.enum_type):
        yield from _in_enum(enum, file.package, (_FILE.ENUM_TYPE_FIELD_NUMBER, index))
    for index, service in enumerate(file.service):
        path = (_FILE.SERVICE_FIELD_NUMBER, index)
        name = f"{file.package}.{service.name}"
        yield name, path
        for number, method in enumerate(service.method):
            yield f"{name}.{method.name}", (*path, descriptor_pb2.ServiceDescriptorProto.METHOD_FIELD_NUMBER, number)


def _in_message(message: DescriptorProto, scope: str, path: Path) -> Iterator[tuple[str, Path]]:
    name = f"{scope}.{message.name}"
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, _MESSAGE.FIELD_FIELD_NUMBER, index)
    for index, nested in enumerate(message.nested_type):
        yield from _in_message(nested, name, (*path, _MESSAGE.NESTED_TYPE_FIELD_NUMBER, index))
    for index, enum in enumerate(message.enum_type):
        yield from _in_enum(enum, name, (*path, _MESSAGE.ENUM_TYPE_FIELD_NUMBER, index))


def _in_enum(enum: EnumDescriptorProto, scope: str, path: Path) -> Iterator[tuple[str, Path]]:
    name = f"{scope}.{enum.name}"
    yield name, path
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, descriptor_pb2.EnumDescriptorProto.VALUE_FIELD_NUMBER, index)
