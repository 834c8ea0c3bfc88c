"""The routes of go-redis-job-queue, the REST queue that headrace descends from, to the letter: `POST /jobs`,
`GET /jobs/<id>`, `GET /dlq`. (Its `GET /healthz` is in health.py.)

There, records are hashes: every value is a string, times are seconds since the epoch. A dead letter is an object with
one key, `job`, whose value is the envelope of the job as a JSON text. An error is `{"error": "<text>"}`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from starlette.responses import Response, StreamingResponse

from headrace.v1 import job_pb2, job_service_pb2
from headrace_server._violations import Violations, shown
from headrace_server.errors import Refused
from headrace_server.http.answers import JSON, dumps, http_status_of, retry_after
from headrace_server.http.bodies import raw_path, while_connected
from headrace_server.http.loopback import CallFailed
from headrace_server.http.refusals import BadJson, HttpRefusal, WrongMethod
from headrace_server.http.request import loads
from headrace_server.status import status_for

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace_server.http.bodies import Bodies
    from headrace_server.http.loopback import Loopback

MAX_DEAD_LETTERS = 1_000
"""Dead letters that GET /dlq shows: the latest. All of them are at /v1/dlq, in pages."""

_METHODS = job_service_pb2.DESCRIPTOR.services_by_name["JobService"].methods_by_name
_FIELDS = {"type", "payload", "scheduled_at"}
_NAMES = {"job.schedule_time": "scheduled_at", "job.type": "type", "job.payload": "payload"}
_SECONDS = range(-62_135_596_800, 253_402_300_800)  # what a Timestamp can hold


class Ancestor:
    """Answers these routes."""

    def __init__(self, *, loopback: Loopback, bodies: Bodies) -> None:
        self._loopback = loopback
        self._bodies = bodies

    def serves(self, path: str) -> bool:
        """Whether this is one of these routes."""
        return path in {"/jobs", "/dlq"} or (path.startswith("/jobs/") and path.count("/") == 2)  # noqa: PLR2004

    async def respond(self, request: Request) -> Response:
        """The answer, also where it is an error of the call or of the request."""
        try:
            return await self._route(request)
        except CallFailed as error:
            headers = retry_after(error.status)
            return _error(_renamed(error.status.message), http_status_of(error.status), headers)
        except HttpRefusal as refusal:
            return _error(str(refusal), refusal.http_status, refusal.headers())
        except Refused as refusal:
            status = status_for(refusal)
            return _error(status.message, http_status_of(status), {})

    async def _route(self, request: Request) -> Response:
        path = raw_path(request)
        verbs = {"POST"} if path == "/jobs" else {"GET", "HEAD"}
        if request.method not in verbs:
            raise WrongMethod(request.method, path, verbs)
        if path == "/jobs":
            return await self._enqueue(request)
        if path == "/dlq":
            return await self._dead_letters(request)
        return await self._job(request, path.removeprefix("/jobs/"))

    async def _enqueue(self, request: Request) -> Response:
        spec = _spec(loads(await self._bodies.read(request)))
        message = job_service_pb2.EnqueueRequest(job=spec)
        answer: Any = await while_connected(request, self._loopback.unary(_METHODS["Enqueue"], message))
        return Response(dumps({"id": answer.job_id, "status": "accepted"}), 202, media_type=JSON)

    async def _job(self, request: Request, job_id: str) -> Response:
        call = self._loopback.unary(_METHODS["GetJob"], job_service_pb2.GetJobRequest(job_id=unquote(job_id)))
        try:
            answer: Any = await while_connected(request, call)
        except CallFailed as error:
            if error.status.code not in {code_pb2.NOT_FOUND, code_pb2.INVALID_ARGUMENT}:
                raise
            return _error("job not found", 404, {})
        return Response(dumps(_record(answer.job)), media_type=JSON)

    async def _dead_letters(self, request: Request) -> Response:
        call = self._loopback.unary(_METHODS["ListDLQ"], job_service_pb2.ListDLQRequest(page_size=MAX_DEAD_LETTERS))
        page: Any = await while_connected(request, call)
        headers = {"X-Total-Count": str(page.total_size)}
        return StreamingResponse(self._envelopes(page.jobs), headers=headers, media_type=JSON)

    async def _envelopes(self, jobs: Any) -> AsyncIterator[bytes]:
        """The list, oldest first. Contents are read one by one, for together they may be large."""
        opening = b"["
        for listed in reversed(jobs):
            request = job_service_pb2.GetJobRequest(job_id=listed.job_id, raw=True)
            try:
                answer: Any = await self._loopback.unary(_METHODS["GetJob"], request)
            except CallFailed:
                continue  # requeued and ended, or aged out, since it was listed
            yield opening + dumps({"job": json.dumps(_envelope(answer.job), ensure_ascii=False)}).rstrip()
            opening = b","
        yield b"[]\n" if opening == b"[" else b"]\n"


def _spec(data: Any) -> job_pb2.JobSpec:
    """The job to store. Raises InvalidRequest, BadJson."""
    if not isinstance(data, dict):
        raise BadJson('the body must be a JSON object, such as {"type":"echo.process","payload":{"msg":"hello"}}')
    bad = Violations()
    for name in data.keys() - _FIELDS:
        bad.add(name, "is unknown; there are type, payload and scheduled_at")
    if not isinstance(data.get("type"), str):
        bad.add("type", "is required; it must be text")
    if "payload" not in data:
        bad.add("payload", "is required; it may be any JSON value")
    due = data.get("scheduled_at") or 0
    if isinstance(due, bool) or not isinstance(due, int) or due not in _SECONDS:
        bad.add("scheduled_at", f"must be whole seconds since the epoch; got {shown(due)}")
    bad.check()
    payload = dumps(data["payload"]).rstrip()
    schedule_time = Timestamp(seconds=due) if due > 0 else None
    return job_pb2.JobSpec(type=data["type"], payload=payload, schedule_time=schedule_time)


def _record(job: job_pb2.Job) -> dict[str, str]:
    """The job as a hash of strings."""
    record = {"status": _word(job.state), "created_at": str(job.create_time.seconds)}
    if job.HasField("start_time"):
        record["started_at"] = str(job.start_time.seconds)
    if job.HasField("finish_time"):
        record["finished_at"] = str(job.finish_time.seconds)
    record["attempts"] = str(job.attempt)
    record["updated_at"] = str(job.history[-1].time.seconds)
    if job.history[0].state == job_pb2.Job.State.STATE_SCHEDULED:
        record["scheduled_at"] = str(job.schedule_time.seconds)
    if job.HasField("failure"):
        record["last_error"] = job.failure.message
    return record


def _envelope(job: job_pb2.Job) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "type": job.type,
        "payload": _content(job.payload),
        "attempt": job.attempt,
        "max_attempts": job.retry_policy.max_attempts,
        "timeout_ms": job.attempt_timeout.ToMilliseconds(),
        "created_at": job.create_time.seconds,
    }


def _content(payload: bytes) -> Any:
    """The JSON value, or base64 of what is none."""
    try:
        return json.loads(payload)
    except ValueError:
        return base64.b64encode(payload).decode()


def _word(state: job_pb2.Job.State) -> str:
    return job_pb2.Job.State.Name(state).removeprefix("STATE_").lower()


def _renamed(message: str) -> str:
    """The message with the fields named as this contract names them."""
    for name, told in _NAMES.items():
        message = message.replace(name, told)
    return message


def _error(message: str, status: int, headers: dict[str, str]) -> Response:
    return Response(dumps({"error": message}), status, headers=headers, media_type=JSON)
