"""Reflection under both its names, with what tools need.

grpcio-reflection serves v1alpha alone, while tools ask for v1 first. And Python's descriptors have lost the comments of
the contract, which `grpcurl describe` shows, and the JSON names of fields, without which it prints `job_id` for
`jobId`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from google.protobuf.descriptor import FileDescriptor

    Response = Any  # grpcio-reflection ships no types
    Requests = AsyncIterator[Any]
    Responses = AsyncIterator[Response]
    Context = grpc.aio.ServicerContext[Any, Any]

_ALPHA = "grpc.reflection.v1alpha"
_V1 = "grpc.reflection.v1"
_V1_FILE = "grpc/reflection/v1/reflection.proto"
_SERVICE = "ServerReflection"

_DETAILS = ("google.rpc.BadRequest",)  # the file of all details of errors, so that tools can show them
NAMES = (f"{_V1}.{_SERVICE}", f"{_ALPHA}.{_SERVICE}")


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Let clients ask the server for the descriptors of `services`, and of reflection itself."""
    served = (*services, f"{_ALPHA}.{_SERVICE}")
    servicer = reflection.aio.ReflectionServicer((*served, NAMES[0]), pool=_pool(served))
    commented = _commented_files()

    async def answer(requests: Requests, context: Context) -> Responses:
        async for response in servicer.ServerReflectionInfo(requests, context):
            yield _with_comments(response, commented)

    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in NAMES]
    )


def _commented_files() -> dict[str, bytes]:
    """The files of the contract as protoc read them, by name."""
    packed = (files("headrace.v1") / "descriptors.binpb").read_bytes()
    return {file.name: file.SerializeToString() for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file}


def _with_comments(response: Response, commented: Mapping[str, bytes]) -> Response:
    found = response.file_descriptor_response.file_descriptor_proto
    for index, packed in enumerate(found):
        name = descriptor_pb2.FileDescriptorProto.FromString(packed).name
        found[index] = commented.get(name, packed)
    return response


def _pool(services: Iterable[str]) -> descriptor_pool.DescriptorPool:
    """The files of these services and all that they need, and reflection v1, which differs from v1alpha on the wire in
    its name alone.
    """
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for name in (*services, *_DETAILS):
        _add(pool, descriptor_pool.Default().FindFileContainingSymbol(name), added)
    first = _proto(reflection_pb2.DESCRIPTOR)
    _rename(first)
    pool.AddSerializedFile(first.SerializeToString())
    return pool


def _add(pool: descriptor_pool.DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for needed in file.dependencies:
        _add(pool, needed, added)
    pool.AddSerializedFile(_proto(file).SerializeToString())


def _proto(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _name_fields(message)
    return proto


def _name_fields(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        first, *rest = field.name.split("_")
        field.json_name = field.json_name or first + "".join(word[:1].upper() + word[1:] for word in rest)
    for nested in message.nested_type:
        _name_fields(nested)


def _rename(file: descriptor_pb2.FileDescriptorProto) -> None:
    file.name, file.package = _V1_FILE, _V1
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_V1}.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_V1}.")
            method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_V1}.")
