"""From a status of gRPC to the client's own errors."""

import copy
import pickle
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

import headrace
from headrace import _status, errors


def _status_pb(code: int, message: str, *details: Message) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", errors.InvalidRequest),
        ("NOT_FOUND", errors.JobNotFound),
        ("OUT_OF_RANGE", errors.HistoryGap),
        ("FAILED_PRECONDITION", errors.PreconditionFailed),
        ("ABORTED", errors.PreconditionFailed),
        ("PERMISSION_DENIED", errors.AccessDenied),
        ("UNAUTHENTICATED", errors.AccessDenied),
        ("RESOURCE_EXHAUSTED", errors.ResourceExhausted),
        ("UNAVAILABLE", errors.Unavailable),
        ("DEADLINE_EXCEEDED", errors.DeadlineExceeded),
        ("UNIMPLEMENTED", errors.Unsupported),
        ("INTERNAL", errors.ServerFault),
        ("UNKNOWN", errors.ServerFault),
        ("DATA_LOSS", errors.ServerFault),
        ("CANCELLED", errors.ServerFault),
    ],
)
def test_each_code_has_its_error(code: str, kind: type[errors.RequestError]) -> None:
    """Each code of gRPC becomes one kind of error, which keeps the number of the code."""
    number = code_pb2.Code.Value(code)
    error = _status.error_from_status(_status_pb(number, "text"))
    assert (type(error), str(error), error.code) == (kind, "text", number)


def test_details_are_read() -> None:
    """Reason, wait and the violations of a status reach the error; a foreign domain's reason does not."""
    error = _status.error_from_status(
        _status_pb(
            code_pb2.INVALID_ARGUMENT,
            "requests[3].job.type: wrong",
            error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="headrace"),
            error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field="requests[3].job.type", description="wrong")
                ]
            ),
        ),
        prefix="requests[3].",
    )
    assert isinstance(error, errors.InvalidRequest)
    assert (error.reason, error.retry_after, str(error)) == ("INVALID_REQUEST", 1.5, "job.type: wrong")
    assert error.violations == (errors.Violation(field="job.type", description="wrong"),)
    foreign = error_details_pb2.ErrorInfo(reason="QUOTA", domain="proxy.example")
    assert _status.error_from_status(_status_pb(8, "", foreign)).reason == ""


def _rpc_error(code: grpc.StatusCode, text: str, *trailers: tuple[str, Any]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=text)


def test_status_in_the_trailers_wins() -> None:
    """A call that failed with a google.rpc.Status fails with what that says."""
    info = error_details_pb2.ErrorInfo(reason="STORE_FULL", domain="headrace")
    status = rpc_status.to_status(_status_pb(code_pb2.RESOURCE_EXHAUSTED, "full", info))
    error = _status.error_from_rpc(
        _rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", *status.trailing_metadata), "there:1"
    )
    assert (type(error), str(error), error.reason) == (errors.ResourceExhausted, "full", "STORE_FULL")


@pytest.mark.parametrize(
    "trailers", [(), (("grpc-status-details-bin", b"\xff\xff"),), (("grpc-status-details-bin", b"\x08\x05"),)]
)
def test_failure_that_the_server_did_not_speak_of_names_the_server(trailers: tuple[tuple[str, Any], ...]) -> None:
    """Without a status of the server, or with one that is broken or contradicts the code, the error says where."""
    error = _status.error_from_rpc(_rpc_error(grpc.StatusCode.UNAVAILABLE, "refused", *trailers), "there:1")
    assert (type(error), error.reason) == (errors.Unavailable, "")
    assert str(error) == "no connection to the server at there:1: refused"


def test_a_call_that_the_server_gave_up_may_be_repeated() -> None:
    """Regression: a call cut off by a server's end was taken for a fault of the server, which no repeat could help."""
    error = _status.error_from_rpc(_rpc_error(grpc.StatusCode.CANCELLED, "CANCELLED"), "there:1")
    assert (type(error), error.code) == (errors.Unavailable, 1)
    assert str(error) == "the call was given up by the server at there:1: CANCELLED"


def _leaf_classes(kind: type[BaseException]) -> list[type[BaseException]]:
    return [leaf for child in kind.__subclasses__() for leaf in (_leaf_classes(child) or [child])]


def test_tree_is_drawn_as_it_is() -> None:
    """The drawing at the top of errors.py names every error."""
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in _leaf_classes(errors.HeadraceError) if kind.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("InvalidRequest", ValueError),
        ("JobNotFound", LookupError),
        ("DeadlineExceeded", TimeoutError),
        ("ContentError", ValueError),
        ("InvalidAddress", ValueError),
        ("ClientClosed", RuntimeError),
    ],
)
def test_errors_are_what_python_calls_them_too(kind: str, builtin: type[Exception]) -> None:
    """Errors that Python has a name for can be caught by that name."""
    assert issubclass(getattr(headrace, kind), builtin)


def test_errors_survive_copy_and_pickle() -> None:
    """An error can cross to another process, with all that it knows."""
    error = errors.Unavailable("gone", code=14, reason="GOING_AWAY", retry_after=2.0)
    enqueue_error = errors.EnqueueError(3, headrace.NewJob("t"), error)
    for duplicate in (copy.copy(enqueue_error), pickle.loads(pickle.dumps(enqueue_error))):
        assert str(duplicate) == "job 3 (t) was not stored: gone"
        assert (duplicate.index, duplicate.job) == (3, headrace.NewJob("t"))
        assert (duplicate.error.code, duplicate.error.reason, duplicate.error.retry_after) == (14, "GOING_AWAY", 2.0)
