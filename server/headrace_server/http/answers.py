"""Messages and errors as the bodies of HTTP answers."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2
from starlette.responses import Response

from headrace_server.http.refusals import HTTP_STATUS, HttpRefusal
from headrace_server.status import status_for

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.rpc import status_pb2

JSON = "application/json"


def as_json(message: Message, field: str = "") -> bytes:
    """The message, or one field of it, as one line of proto3 JSON: lowerCamelCase, bytes as base64, 64-bit integers as
    text. Fields without presence are there even where they are empty, so that answers of one kind have one shape.
    """
    data: Any = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    if field:
        data = data.get(message.DESCRIPTOR.fields_by_name[field].json_name)
    return dumps(data)


def dumps(data: Any) -> bytes:
    """Compact JSON in UTF-8, one line, with its line break."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def error_body(status: status_pb2.Status, http_status: int) -> dict[str, Any]:
    """The error as AIP-193 has it in JSON: `code` is that of HTTP, `status` the name of the one of gRPC."""
    told = json_format.MessageToDict(status)
    return {
        "error": {
            "code": http_status,
            "message": status.message,
            "status": code_pb2.Code.Name(status.code),
            "details": told.get("details", []),
        }
    }


def http_status_of(status: status_pb2.Status) -> int:
    """The code of HTTP for a call that failed so."""
    return HTTP_STATUS.get(status.code, 500)


def error_response(status: status_pb2.Status) -> Response:
    """The answer for a call that failed. Retry-After tells the delay of its RetryInfo."""
    code = http_status_of(status)
    return Response(dumps(error_body(status, code)), code, headers=retry_after(status), media_type=JSON)


def refusal_response(error: Exception) -> Response:
    """The answer for a request that never became a call."""
    if isinstance(error, HttpRefusal):
        body = error_body(error.status(), error.http_status)
        return Response(dumps(body), error.http_status, headers=error.headers(), media_type=JSON)
    return error_response(status_for(error))


def retry_after(status: status_pb2.Status) -> dict[str, str]:
    """The header that tells when to try again, where the error says so."""
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return {"Retry-After": str(math.ceil(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))}
    return {}
