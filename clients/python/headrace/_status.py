"""The errors of gRPC, translated in one table into those of errors.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from headrace import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

DOMAIN = "headrace"

_ERRORS: dict[int, type[errors.RequestError]] = {
    code_pb2.INVALID_ARGUMENT: errors.InvalidRequest,
    code_pb2.OUT_OF_RANGE: errors.HistoryGap,
    code_pb2.NOT_FOUND: errors.JobNotFound,
    code_pb2.FAILED_PRECONDITION: errors.PreconditionFailed,
    code_pb2.ABORTED: errors.PreconditionFailed,
    code_pb2.PERMISSION_DENIED: errors.AccessDenied,
    code_pb2.UNAUTHENTICATED: errors.AccessDenied,
    code_pb2.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    code_pb2.UNAVAILABLE: errors.Unavailable,
    code_pb2.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    code_pb2.UNIMPLEMENTED: errors.Unsupported,
}

_NOT_FOUND: dict[str, type[errors.RequestError]] = {"QUEUE_NOT_FOUND": errors.QueueNotFound}
"""What was not found, by the server's reason; a job where it says no more."""

_Detail = TypeVar("_Detail", bound=Message)


def error_from_status(status: status_pb2.Status, *, prefix: str = "") -> errors.RequestError:
    """The error that a google.rpc.Status stands for.

    `prefix` is what the server put before the fields of one item of a batch, which means nothing to its producer.
    """
    info = _detail(status, error_details_pb2.ErrorInfo)
    retry = _detail(status, error_details_pb2.RetryInfo)
    reason = info.reason if info is not None and info.domain == DOMAIN else ""
    error = _NOT_FOUND.get(reason, _ERRORS.get(status.code, errors.ServerFault))(
        status.message.replace(prefix, ""),
        code=status.code,
        reason=reason,
        retry_after=None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
    )
    if isinstance(error, errors.InvalidRequest):
        error.violations = tuple(_violations(status, prefix))
    return error


def error_from_rpc(error: grpc.aio.AioRpcError, target: str, *, connected: bool = True) -> errors.RequestError:
    """The error that a failed call of `target` stands for; the caller raises it `from` this one."""
    status = _status_of(error)
    if status is not None:
        return error_from_status(status)
    number: int = error.code().value[0]
    # The caller's own cancellation never comes here: this is a server that ended while it was called.
    kind = errors.Unavailable if number == code_pb2.CANCELLED else _ERRORS.get(number, errors.ServerFault)
    # Without a status of its own the server did not speak: the text is gRPC's, and names no server.
    text = error.details() if connected or number != code_pb2.DEADLINE_EXCEEDED else "there is no connection to it"
    return kind(f"{_WITHOUT_ANSWER.get(number, 'the call failed at')} {target}: {text}", code=number)


_WITHOUT_ANSWER = {
    code_pb2.UNAVAILABLE: "no connection to the server at",
    code_pb2.CANCELLED: "the call was given up by the server at",
    code_pb2.DEADLINE_EXCEEDED: "no answer in time from the server at",
}


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        status: status_pb2.Status | None = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        return None  # Details that contradict the status itself, or are not details, come from no headrace server.
    return status


def _detail(status: status_pb2.Status, kind: type[_Detail]) -> _Detail | None:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None


def _violations(status: status_pb2.Status, prefix: str) -> Iterable[errors.Violation]:
    bad_request = _detail(status, error_details_pb2.BadRequest)
    for violation in () if bad_request is None else bad_request.field_violations:
        field, description = violation.field.removeprefix(prefix), violation.description
        yield errors.Violation(field=field, description=description)
