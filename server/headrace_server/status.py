"""The one table from what went wrong to what the client is told: a google.rpc.Status with details.

| error | code | reason in ErrorInfo | further details |
|---|---|---|---|
| InvalidRequest | INVALID_ARGUMENT | INVALID_REQUEST | BadRequest: each field |
| Malformed | INVALID_ARGUMENT | MALFORMED_REQUEST | |
| RequestIdReused | INVALID_ARGUMENT | REQUEST_ID_REUSED | BadRequest: request_id |
| BadPageToken | INVALID_ARGUMENT | BAD_PAGE_TOKEN | BadRequest: page_token |
| JobNotFound | NOT_FOUND | JOB_NOT_FOUND | ResourceInfo |
| QueueNotFound | NOT_FOUND | QUEUE_NOT_FOUND | ResourceInfo |
| WrongState | FAILED_PRECONDITION | WRONG_STATE | PreconditionFailure |
| VersionAhead | OUT_OF_RANGE | VERSION_AHEAD | BadRequest: after_version |
| HistoryRewound | OUT_OF_RANGE | HISTORY_REWOUND | BadRequest: after_version |
| HistoryTrimmed | OUT_OF_RANGE | HISTORY_TRIMMED | BadRequest: after_version |
| StoreUnavailable | UNAVAILABLE | STORE_UNAVAILABLE | RetryInfo |
| GoingAway | UNAVAILABLE | GOING_AWAY | RetryInfo |
| StoreFull | RESOURCE_EXHAUSTED | STORE_FULL | RetryInfo |
| TooManyWatchers | RESOURCE_EXHAUSTED | TOO_MANY_WATCHERS | RetryInfo |
| DurabilityNotReached | UNAVAILABLE | DURABILITY_NOT_REACHED | RetryInfo |
| DurabilityUnsupported | FAILED_PRECONDITION | DURABILITY_UNSUPPORTED | PreconditionFailure: durability |
| StoreUnfit | FAILED_PRECONDITION | STORE_UNFIT | PreconditionFailure |
| TookTooLong | DEADLINE_EXCEEDED | TOOK_TOO_LONG | |
| NoSuchMethod, NotImplementedError | UNIMPLEMENTED | UNIMPLEMENTED | |
| anything else | INTERNAL | INTERNAL | ErrorInfo.metadata.error_id, which is in the server's log |

The texts of the store's errors and of unforeseen ones never reach a client: they may name hosts, keys and code.
Everything is printable ASCII and small, because it travels in the trailers, which clients cap at 8 KiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from headrace_broker import (
    BadPageToken,
    DurabilityNotReached,
    DurabilityUnsupported,
    JobNotFound,
    QueueNotFound,
    RequestIdReused,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
    WrongState,
)
from headrace_server._violations import Violation
from headrace_server.errors import (
    GoingAway,
    HistoryRewound,
    HistoryTrimmed,
    InvalidRequest,
    Malformed,
    NoSuchMethod,
    TookTooLong,
    TooManyWatchers,
    VersionAhead,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

DOMAIN = "headrace"
MAX_VIOLATIONS = 10
"""Violations that an answer lists; it says how many more there are."""
MAX_MESSAGE = 400
"""Characters of the message."""
_MAX_FIELD = 160
_MAX_DESCRIPTION = 250


def status_for(error: Exception, *, error_id: str = "", prefix: str = "") -> status_pb2.Status:
    """What the client is told of `error`. `error_id` names an unforeseen error in the log; `prefix` is the path of the
    item of a batch that the error belongs to, such as `requests[3].`.
    """
    for kind, tell in _TABLE:
        if isinstance(error, kind):
            return tell(error, prefix)
    return _status(
        code_pb2.INTERNAL,
        "INTERNAL",
        f"internal error {error_id}; the server's log says more under this id",
        metadata={"error_id": error_id},
    )


def retries_are_hidden(error: Exception) -> bool:
    """Whether the error may be hidden by gRPC's own retries in the client. They would wait as long again four times,
    and a producer whose job is not confirmed would hear of it as DEADLINE_EXCEEDED, without a reason.
    """
    return not isinstance(error, DurabilityNotReached)


def is_foreseen(error: Exception) -> bool:
    """Whether the table has a row for the error. What is not foreseen is a fault of the server, and logged as one."""
    return any(isinstance(error, kind) for kind, _ in _TABLE)


def _invalid_request(error: InvalidRequest, _prefix: str) -> status_pb2.Status:
    count = len(error.violations)
    message = str(error) if count == 1 else f"{count} fields are invalid: {error}"
    return _status(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", message, _bad_request(error.violations))


def _malformed(error: Malformed, _prefix: str) -> status_pb2.Status:
    return _status(code_pb2.INVALID_ARGUMENT, "MALFORMED_REQUEST", str(error))


def _request_id_reused(error: RequestIdReused, prefix: str) -> status_pb2.Status:
    field = f"{prefix}request_id"
    problem = f"already stands for job {error.job_id}, which differs from this one"
    return _status(
        code_pb2.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
        f"{field}: {problem}",
        _bad_request((Violation(field=field, description=problem),)),
        metadata={"job_id": error.job_id},
    )


def _bad_page_token(_error: BadPageToken, _prefix: str) -> status_pb2.Status:
    problem = "must be the next_page_token of an earlier answer to the same query"
    return _status(
        code_pb2.INVALID_ARGUMENT,
        "BAD_PAGE_TOKEN",
        f"page_token: {problem}",
        _bad_request((Violation(field="page_token", description=problem),)),
    )


def _job_not_found(error: JobNotFound, _prefix: str) -> status_pb2.Status:
    problem = f"there is no job {error.job_id}: it was never stored, or its retention has passed"
    resource = error_details_pb2.ResourceInfo(
        resource_type="headrace.v1.Job", resource_name=error.job_id, description=problem
    )
    return _status(code_pb2.NOT_FOUND, "JOB_NOT_FOUND", problem, resource, metadata={"job_id": error.job_id})


def _queue_not_found(error: QueueNotFound, _prefix: str) -> status_pb2.Status:
    problem = f"there is no queue {error.queue}: it has never had a job, nor been set up"
    resource = error_details_pb2.ResourceInfo(
        resource_type="headrace.v1.Queue", resource_name=error.queue, description=problem
    )
    return _status(code_pb2.NOT_FOUND, "QUEUE_NOT_FOUND", problem, resource, metadata={"queue": error.queue})


def _wrong_state(error: WrongState, _prefix: str) -> status_pb2.Status:
    violation = ("JOB_STATE", error.job_id, f"a job that is {error.state} cannot be {error.verb}")
    metadata = {"job_id": error.job_id, "state": error.state}
    return _status(
        code_pb2.FAILED_PRECONDITION, "WRONG_STATE", str(error), _precondition(*violation), metadata=metadata
    )


def _version_ahead(error: VersionAhead, _prefix: str) -> status_pb2.Status:
    return _out_of_range("VERSION_AHEAD", str(error))


def _history_rewound(error: HistoryRewound, _prefix: str) -> status_pb2.Status:
    return _out_of_range("HISTORY_REWOUND", str(error))


def _history_trimmed(error: HistoryTrimmed, _prefix: str) -> status_pb2.Status:
    return _out_of_range("HISTORY_TRIMMED", str(error))


def _store_unavailable(_error: StoreUnavailable, _prefix: str) -> status_pb2.Status:
    message = "the store does not answer now; whether the call took effect is unknown, try again"
    return _status(code_pb2.UNAVAILABLE, "STORE_UNAVAILABLE", message, _retry(1))


def _going_away(error: GoingAway, _prefix: str) -> status_pb2.Status:
    return _status(code_pb2.UNAVAILABLE, "GOING_AWAY", str(error), _retry(0))


def _store_full(_error: StoreFull, _prefix: str) -> status_pb2.Status:
    message = "the store is full and takes no new jobs; nothing was stored, try again later"
    return _status(code_pb2.RESOURCE_EXHAUSTED, "STORE_FULL", message, _retry(5))


def _too_many_watchers(error: TooManyWatchers, _prefix: str) -> status_pb2.Status:
    return _status(code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS", str(error), _retry(5))


def _durability_not_reached(error: DurabilityNotReached, _prefix: str) -> status_pb2.Status:
    message = (
        f"durability: job {error.job_id} is stored and may run, but it is not {error.durability.upper()}: {error.why}; "
        "call again with the same request_id to have it confirmed"
    )
    metadata = {"job_id": error.job_id, "durability": f"DURABILITY_{error.durability.upper()}"}
    return _status(code_pb2.UNAVAILABLE, "DURABILITY_NOT_REACHED", message, _retry(1), metadata=metadata)


def _durability_unsupported(error: DurabilityUnsupported, _prefix: str) -> status_pb2.Status:
    problem = f"{error.durability.upper()} cannot be had from this store: {error.why}"
    failure = _precondition("STORE_SETUP", "durability", problem)
    return _status(code_pb2.FAILED_PRECONDITION, "DURABILITY_UNSUPPORTED", f"durability: {problem}", failure)


def _store_unfit(_error: StoreUnfit, _prefix: str) -> status_pb2.Status:
    problem = "the store is set up in a way that would lose jobs; the server's log says what to change"
    failure = _precondition("STORE_SETUP", "headrace/store", problem)
    return _status(code_pb2.FAILED_PRECONDITION, "STORE_UNFIT", problem, failure)


def _took_too_long(error: TookTooLong, _prefix: str) -> status_pb2.Status:
    return _status(code_pb2.DEADLINE_EXCEEDED, "TOOK_TOO_LONG", str(error))


def _unimplemented(_error: Exception, _prefix: str) -> status_pb2.Status:
    return _status(code_pb2.UNIMPLEMENTED, "UNIMPLEMENTED", str(NoSuchMethod()))


_TABLE: tuple[tuple[type[Exception], Callable[..., status_pb2.Status]], ...] = (
    (InvalidRequest, _invalid_request),
    (Malformed, _malformed),
    (RequestIdReused, _request_id_reused),
    (BadPageToken, _bad_page_token),
    (JobNotFound, _job_not_found),
    (QueueNotFound, _queue_not_found),
    (WrongState, _wrong_state),
    (VersionAhead, _version_ahead),
    (HistoryRewound, _history_rewound),
    (HistoryTrimmed, _history_trimmed),
    (StoreUnavailable, _store_unavailable),
    (DurabilityNotReached, _durability_not_reached),
    (DurabilityUnsupported, _durability_unsupported),
    (GoingAway, _going_away),
    (StoreFull, _store_full),
    (TooManyWatchers, _too_many_watchers),
    (StoreUnfit, _store_unfit),
    (TookTooLong, _took_too_long),
    (NoSuchMethod, _unimplemented),
    (NotImplementedError, _unimplemented),
)


def _out_of_range(reason: str, problem: str) -> status_pb2.Status:
    violation = Violation(field="after_version", description=problem)
    return _status(code_pb2.OUT_OF_RANGE, reason, problem, _bad_request((violation,)))


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(one.field, _MAX_FIELD), description=_cut(one.description, _MAX_DESCRIPTION)
            )
            for one in violations[:MAX_VIOLATIONS]
        ]
    )


def _precondition(kind: str, subject: str, problem: str) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation(type=kind, subject=subject, description=problem)
    return error_details_pb2.PreconditionFailure(violations=[violation])


def _retry(seconds: int) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))


def _status(
    code: code_pb2.Code, reason: str, message: str, *details: Message, metadata: dict[str, str] | None = None
) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=_cut(message, MAX_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
    for detail in (info, *details):
        status.details.add().Pack(detail)
    return status


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
