"""The table from errors to what clients are told."""

import grpc
import pytest
from google.rpc import code_pb2
from grpc_status import rpc_status

from headrace_broker import Durability
from headrace_broker import errors as broker_errors
from headrace_server import errors
from headrace_server._violations import Violation
from headrace_server.status import is_foreseen, status_for

from .conftest import Answer

SECRET = "redis://user:hunter2@10.0.0.1:6379/0 in /srv/app/store.py"
SAMPLES = {
    broker_errors.JobNotFound: broker_errors.JobNotFound("0" * 26),
    broker_errors.QueueNotFound: broker_errors.QueueNotFound("mail"),
    broker_errors.RequestIdReused: broker_errors.RequestIdReused("r", "0" * 26),
    broker_errors.BadPageToken: broker_errors.BadPageToken(SECRET),
    broker_errors.WrongState: broker_errors.WrongState("0" * 26, "SUCCEEDED", "cancelled"),
    broker_errors.DurabilityNotReached: broker_errors.DurabilityNotReached(
        "0" * 26, Durability.REPLICATED, "no replica"
    ),
    broker_errors.DurabilityUnsupported: broker_errors.DurabilityUnsupported(Durability.FSYNCED, "no file"),
    broker_errors.StoreUnavailable: broker_errors.StoreUnavailable(SECRET),
    broker_errors.StoreFull: broker_errors.StoreFull(SECRET),
    broker_errors.StoreUnfit: broker_errors.StoreUnfit(SECRET),
    errors.InvalidRequest: errors.InvalidRequest((Violation(field="job.queue", description="is required"),)),
    errors.Malformed: errors.Malformed("EnqueueRequest"),
    errors.VersionAhead: errors.VersionAhead(after_version=5, version=4),
    errors.HistoryRewound: errors.HistoryRewound(after_version=5),
    errors.HistoryTrimmed: errors.HistoryTrimmed(after_version=1, oldest=4),
    errors.TooManyWatchers: errors.TooManyWatchers(10),
    errors.NoSuchMethod: errors.NoSuchMethod(),
    errors.TookTooLong: errors.TookTooLong(30),
    errors.GoingAway: errors.GoingAway(),
}
CODES = {
    broker_errors.JobNotFound: ("NOT_FOUND", {"resource_info"}),
    broker_errors.QueueNotFound: ("NOT_FOUND", {"resource_info"}),
    broker_errors.RequestIdReused: ("INVALID_ARGUMENT", {"bad_request"}),
    broker_errors.BadPageToken: ("INVALID_ARGUMENT", {"bad_request"}),
    broker_errors.WrongState: ("FAILED_PRECONDITION", {"precondition_failure"}),
    broker_errors.DurabilityNotReached: ("UNAVAILABLE", {"retry_info"}),
    broker_errors.DurabilityUnsupported: ("FAILED_PRECONDITION", {"precondition_failure"}),
    broker_errors.StoreUnavailable: ("UNAVAILABLE", {"retry_info"}),
    broker_errors.StoreFull: ("RESOURCE_EXHAUSTED", {"retry_info"}),
    broker_errors.StoreUnfit: ("FAILED_PRECONDITION", {"precondition_failure"}),
    errors.InvalidRequest: ("INVALID_ARGUMENT", {"bad_request"}),
    errors.Malformed: ("INVALID_ARGUMENT", set()),
    errors.VersionAhead: ("OUT_OF_RANGE", {"bad_request"}),
    errors.HistoryRewound: ("OUT_OF_RANGE", {"bad_request"}),
    errors.HistoryTrimmed: ("OUT_OF_RANGE", {"bad_request"}),
    errors.TooManyWatchers: ("RESOURCE_EXHAUSTED", {"retry_info"}),
    errors.NoSuchMethod: ("UNIMPLEMENTED", set()),
    errors.TookTooLong: ("DEADLINE_EXCEEDED", set()),
    errors.GoingAway: ("UNAVAILABLE", {"retry_info"}),
}


def _leaves(kind: type[Exception]) -> set[type[Exception]]:
    below = {leaf for child in kind.__subclasses__() for leaf in _leaves(child)}
    return below or {kind}


def test_every_error_has_a_row():
    """Every error that broker and server raise on purpose is in the table; no other. (Those that only HTTP can have
    are in a table of their own: see test_http.py.)
    """
    refused = {kind for kind in _leaves(errors.Refused) if not kind.__module__.startswith("headrace_server.http")}
    moved = broker_errors.StoreMoved  # a StoreUnavailable to everyone but the broker itself
    known = _leaves(broker_errors.BrokerError) - {moved} | {broker_errors.StoreUnavailable} | refused
    assert known == set(SAMPLES) == set(CODES)
    assert all(is_foreseen(error) for error in SAMPLES.values())


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_rows(kind: type[Exception]):
    """Each error has its code, an ErrorInfo and the details that fit it, and tells no internals."""
    status = status_for(SAMPLES[kind])
    code, details = CODES[kind]
    answer = Answer(getattr(grpc.StatusCode, code), status)
    assert code_pb2.Code.Name(status.code) == code
    assert set(answer.details) == {"error_info", *details}
    assert answer.reason.replace("_", "").isupper()
    assert "hunter2" not in answer.text
    answer.tells_no_internals()


def test_anything_else_is_internal():
    """An error that nobody foresaw is INTERNAL with an id to find it by in the log, and nothing of its text."""
    status = status_for(ValueError(SECRET), error_id="abc123")
    assert not is_foreseen(ValueError())
    assert (status.code, "abc123" in status.message) == (code_pb2.INTERNAL, True)
    answer = Answer(grpc.StatusCode.INTERNAL, status)
    assert dict(answer.details["error_info"].metadata) == {"error_id": "abc123"}
    answer.tells_no_internals()


def test_the_largest_answer_fits_the_trailers():
    """Message and details stay below the 8 KiB of metadata that clients take."""
    violations = tuple(Violation(field="f" * 1_000, description="d" * 1_000) for _ in range(100))
    status = rpc_status.to_status(status_for(errors.InvalidRequest(violations)))
    (_, details) = status.trailing_metadata[0]
    assert len(details) * 4 / 3 + len(status.details) < 8_000
