"""What can be wrong with an HTTP request before it is a call, and how every error is told over HTTP.

| refusal | HTTP | reason in ErrorInfo |
|---|---|---|
| NoSuchRoute | 404 | NO_SUCH_ROUTE |
| WrongMethod | 405, with Allow | METHOD_NOT_ALLOWED |
| NotJson | 415 | NOT_JSON |
| BadJson | 400 | BAD_JSON |
| BodyTooLarge | 413 | BODY_TOO_LARGE |
| HeadTooLarge | 431 | HEADERS_TOO_LARGE |
| TooSlow | 408 | TOO_SLOW |
| ForeignHost | 421 | FOREIGN_HOST |
| ForeignOrigin | 403 | FOREIGN_ORIGIN |

All others come from the call itself, with the code that google.rpc.Code names for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from google.rpc import code_pb2, error_details_pb2, status_pb2

from headrace_server._violations import shown
from headrace_server.errors import Refused
from headrace_server.status import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

HTTP_STATUS = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
}
"""From google.rpc.Code to HTTP, as google/rpc/code.proto has it."""


class HttpRefusal(Refused):
    """A request that never becomes a call."""

    http_status: ClassVar[int]
    code: ClassVar[code_pb2.Code]
    reason: ClassVar[str]

    def headers(self) -> dict[str, str]:
        """What the answer's headers tell beside."""
        return {}

    def status(self) -> status_pb2.Status:
        """The body of the answer."""
        status = status_pb2.Status(code=self.code, message=str(self))
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN))
        return status


class NoSuchRoute(HttpRefusal):
    """Nothing is served at this path."""

    http_status, code, reason = 404, code_pb2.NOT_FOUND, "NO_SUCH_ROUTE"

    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is served at {shown(path)}; /openapi.json lists the routes")


class WrongMethod(HttpRefusal):
    """The path is served, but not for this method."""

    http_status, code, reason = 405, code_pb2.UNIMPLEMENTED, "METHOD_NOT_ALLOWED"

    def __init__(self, method: str, path: str, allowed: Iterable[str]) -> None:
        self._allowed = ", ".join(sorted(allowed))
        super().__init__(f"{shown(path)} takes {self._allowed}; got {shown(method)}")

    def headers(self) -> dict[str, str]:
        """The methods that the path takes."""
        return {"Allow": self._allowed}


class NotJson(HttpRefusal):
    """The body is not said to be JSON. Browsers send any other type across origins without asking first."""

    http_status, code, reason = 415, code_pb2.INVALID_ARGUMENT, "NOT_JSON"

    def __init__(self, content_type: str) -> None:
        got = f"got {shown(content_type)}" if content_type else "there is none"
        super().__init__(
            f"Content-Type must be application/json; {got}. With curl: -H 'Content-Type: application/json'"
        )


class BadJson(HttpRefusal):
    """The body is no JSON, or not what the route takes."""

    http_status, code, reason = 400, code_pb2.INVALID_ARGUMENT, "BAD_JSON"


class BodyTooLarge(HttpRefusal):
    """The body is larger than one message may be."""

    http_status, code, reason = 413, code_pb2.RESOURCE_EXHAUSTED, "BODY_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body must be at most {limit:,} bytes, as JSON and as the message that it becomes")


class HeadTooLarge(HttpRefusal):
    """The request line and the headers are too long."""

    http_status, code, reason = 431, code_pb2.RESOURCE_EXHAUSTED, "HEADERS_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request line and the headers must be at most {limit:,} bytes together")


class TooSlow(HttpRefusal):
    """The body did not arrive in time."""

    http_status, code, reason = 408, code_pb2.DEADLINE_EXCEEDED, "TOO_SLOW"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} s")


class ForeignHost(HttpRefusal):
    """The request was meant for another host: a name that somebody has pointed at this address."""

    http_status, code, reason = 421, code_pb2.PERMISSION_DENIED, "FOREIGN_HOST"

    def __init__(self, host: str) -> None:
        super().__init__(f"this server is not {shown(host)}; HEADRACE_HTTP_HOSTS names the hosts that it answers for")


class ForeignOrigin(HttpRefusal):
    """A page of another origin made the request."""

    http_status, code, reason = 403, code_pb2.PERMISSION_DENIED, "FOREIGN_ORIGIN"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"pages of {shown(origin)} may not call this server; HEADRACE_HTTP_ORIGINS names the origins that may"
        )
