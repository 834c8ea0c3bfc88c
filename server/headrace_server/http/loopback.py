"""Calls this very server over a socket of its own, so that a call over HTTP meets the same limits,
errors, drain and log as any other.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from headrace_server.status import DOMAIN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    Metadata = Sequence[tuple[str, str]]


class CallFailed(Exception):
    """The call was answered with an error, or not at all."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Loopback:
    """A Unix socket that only this server listens on, and the one channel to it. Belongs to one event loop.

    On Linux it is an abstract one, with no file that a server which is killed would leave behind. Other users of the
    machine could find it; they reach no more there than on the port that HTTP is served on. Elsewhere it is in a
    directory of this user alone.
    """

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if sys.platform == "linux":
            self.address = f"unix-abstract:headrace-{secrets.token_hex(16)}"
        else:
            self._directory = tempfile.TemporaryDirectory(prefix="headrace-")
            self.address = f"unix:{Path(self._directory.name) / 'grpc'}"
        self._channel: grpc.aio.Channel | None = None

    async def unary(self, method: MethodDescriptor, request: Message, metadata: Metadata = ()) -> Message:
        """The answer. Raises CallFailed."""
        call = self._open().unary_unary(_path(method), _serialize, GetMessageClass(method.output_type).FromString)
        try:
            answer: Message = await call(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(_status(error)) from None
        return answer

    async def stream(
        self, method: MethodDescriptor, request: Message, metadata: Metadata = ()
    ) -> AsyncGenerator[Message, None]:
        """The answers. Ends the call when the iteration does. Raises CallFailed."""
        open_call = self._open().unary_stream(_path(method), _serialize, GetMessageClass(method.output_type).FromString)
        call = open_call(request, metadata=metadata)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise CallFailed(_status(error)) from None
        finally:
            call.cancel()

    async def aclose(self) -> None:
        """Close the channel and remove the socket. Safe to call again."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
        if self._directory is not None:
            self._directory.cleanup()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            self._channel = grpc.aio.insecure_channel(self.address, options=[*sizes, *own])
        return self._channel


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _serialize(message: Any) -> bytes:
    packed: bytes = message.SerializeToString()
    return packed


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """What the server said; where it is grpc itself that speaks, its code alone, for its words are about sockets."""
    found: status_pb2.Status | None = rpc_status.from_call(error)
    if found is not None:
        return found
    code = error.code()
    message = {grpc.StatusCode.UNAVAILABLE: "the server is going away; call again"}.get(
        code, f"the call was refused: {code.value[1]}"
    )
    status = status_pb2.Status(code=code.value[0], message=message)
    reason = code_pb2.Code.Name(code.value[0])
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status
