"""A stream of messages as the body of one HTTP answer: server-sent events, or lines of JSON.

Both end when the call does. An error after the first message is the last thing in the body, for the code of HTTP has
been told by then: a line `{"error": …}`, or an event named `failure` (browsers use the name `error` for their own).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from headrace_server.http.answers import as_json, dumps, error_body, http_status_of

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from headrace_server.http.routes import Route

RESUME_FIELD = "after_version"
"""A request that has this field can be resumed after the `version` of a message, which is then the id of its event."""
RECONNECT_MS = 1_000
"""What browsers are told to wait before they open a stream again that has ended."""


class JsonLines:
    """One message on each line: for `curl -N` and for programs."""

    media_type: ClassVar[str] = "application/x-ndjson"
    start: ClassVar[bytes] = b""

    def message(self, message: Message) -> bytes:
        """The message on a line."""
        return as_json(message)

    def failure(self, status: status_pb2.Status) -> bytes:
        """The last line of a stream that failed."""
        return dumps(error_body(status, http_status_of(status)))


class Events:
    """Server-sent events: for EventSource in a browser, which opens the stream again after the last id it got."""

    media_type: ClassVar[str] = "text/event-stream"
    start: ClassVar[bytes] = b"retry: %d\n\n" % RECONNECT_MS

    def __init__(self, route: Route) -> None:
        self._with_ids = resumable(route) and "version" in route.method.output_type.fields_by_name

    def message(self, message: Message) -> bytes:
        """The message as the data of an event."""
        number = b"id: %d\n" % message.version if self._with_ids else b""  # type: ignore[attr-defined]  # see __init__
        return number + b"data: " + as_json(message) + b"\n"

    def failure(self, status: status_pb2.Status) -> bytes:
        """The last event of a stream that failed."""
        return b"event: failure\ndata: " + dumps(error_body(status, http_status_of(status))) + b"\n"


def resumable(route: Route) -> bool:
    """Whether a stream of this route can go on where another one broke off."""
    return route.streams and RESUME_FIELD in route.method.input_type.fields_by_name
