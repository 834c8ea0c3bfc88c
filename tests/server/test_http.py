"""The contract over HTTP, on real sockets: the same answers and the same errors as over gRPC, as JSON."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from harness.web import JSON, Web
from headrace_server.app import Server
from headrace_server.settings import ServerSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all of them

UNKNOWN_ID = "0" * 26


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(valkey: str) -> AsyncIterator[Web]:
    """HTTP to a server that the whole module shares."""
    own = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "max_message": 2**21}
    settings = ServerSettings(redis_url=valkey, namespace=f"test-{uuid.uuid4().hex[:12]}", **own)
    async with Server(settings) as server:
        yield Web(server.http_port)


async def test_a_job(web: Web):
    """A job is stored and read, its content as the JSON it was; names are lowerCamelCase, in answers always, in
    requests also snake_case; what is empty is there.
    """
    stored = await web.post("/v1/jobs", {"job": {"type": "t", "json": {"a": [1, None, "ü"]}, "delay": "3600s"}})
    assert stored.status == 200
    assert set(stored.json) == {"jobId", "state", "version", "createTime", "deduplicated", "durability"}
    assert (stored.json["state"], stored.json["deduplicated"]) == ("STATE_SCHEDULED", False)
    found = (await web.get(f"/v1/jobs/{stored.json['jobId']}")).json["job"]
    assert found["json"] == {"a": [1, None, "ü"]}
    assert (found["attempt"], found["labels"], found["worker"]) == (0, {}, "")
    assert "startTime" not in found
    spelled = {"job": {"type": "t", "retry_policy": {"max_attempts": 3}}, "request_id": "snake"}
    again = await web.post("/v1/jobs", spelled)
    assert (await web.get(f"/v1/jobs/{again.json['jobId']}")).json["job"]["retryPolicy"]["maxAttempts"] == 3


async def test_bytes(web: Web):
    """Payloads are base64, in both alphabets, with padding or without."""
    packed = base64.b64encode(bytes(range(250, 256)) * 2).decode()
    for text in (packed, packed.translate(str.maketrans("+/", "-_")).rstrip("=")):
        stored = await web.post("/v1/jobs", {"job": {"type": "t", "payload": text, "contentType": "x/y"}})
        found = await web.get(f"/v1/jobs/{stored.json['jobId']}?raw=true")
        assert found.json["job"]["payload"] == packed


async def test_a_request_id(web: Web):
    """A request that is repeated returns the first job."""
    body = {"job": {"type": "t"}, "requestId": "the same"}
    first, second = await web.post("/v1/jobs", body), await web.post("/v1/jobs", body)
    assert first.json["jobId"] == second.json["jobId"]
    assert second.json["deduplicated"] is True
    other = await web.post("/v1/jobs", {"job": {"type": "u"}, "requestId": "the same"})
    assert (other.status, other.reason) == (400, "REQUEST_ID_REUSED")


async def test_a_batch(web: Web):
    """A batch answers each item, in order, errors with their details."""
    body = {"requests": [{"job": {"type": "t"}}, {"job": {"type": ""}}]}
    results = (await web.post("/v1/jobs:batchEnqueue", body)).json["results"]
    assert results[0]["job"]["version"] == 1
    assert results[1]["error"]["code"] == 3
    assert results[1]["error"]["details"][1]["fieldViolations"][0]["field"] == "requests[1].job.type"


async def test_large_bodies(web: Web):
    """A job of the largest size is stored and read, and others are served meanwhile."""
    text = "x" * 2**20
    storing = asyncio.create_task(web.post("/v1/jobs", {"job": {"type": "t", "text": text}}))
    assert (await web.get("/healthz")).status == 200
    stored = await storing
    assert (await web.get(f"/v1/jobs/{stored.json['jobId']}")).json["job"]["text"] == text


async def test_dead_letters(web: Web):
    """Lists are pages; an empty one has its fields all the same."""
    page = await web.get("/v1/dlq?queue=empty&pageSize=10")
    assert page.json == {"jobs": [], "nextPageToken": "", "totalSize": 0}


async def test_head(web: Web):
    """HEAD is GET without the body."""
    reply = await web.ask("HEAD", "/healthz")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "16")


async def test_probes(web: Web):
    """The probes answer, and say nothing else."""
    for path in ("/healthz", "/readyz"):
        reply = await web.get(path)
        assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_every_answer_has_a_date_and_forbids_guessing(web: Web):
    """A browser takes no answer for a page or a program."""
    for path in ("/healthz", "/v1/dlq", "/nope"):
        headers = (await web.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["date"].endswith("GMT")
        assert "server" not in headers


JOB: dict[str, tuple[object, str, str]] = {
    "unknown field": ({"job": {"type": "t", "tpye": 1}}, "job.tpye", "is unknown; there are queue, type"),
    "unknown field at the top": ({"type": "t"}, "type", "is unknown; there are job, requestId"),
    "unknown field deep down": ({"job": {"retryPolicy": {"tries": 1}}}, "job.retryPolicy.tries", "is unknown"),
    "both spellings": ({"requestId": "a", "request_id": "b"}, "request_id", "excludes requestId"),
    "two of a oneof": ({"job": {"text": "a", "payload": ""}}, "job.payload", "excludes text"),
    "number for text": ({"job": {"type": 5}}, "job.type", "must be text; got 5"),
    "text for object": ({"job": "t"}, "job", "must be an object; got 't'"),
    "list for object": ({"job": [1]}, "job", "must be an object; got a list"),
    "object for map value": ({"job": {"labels": {"a": {}}}}, 'job.labels["a"]', "must be text; got an object"),
    "null for map value": ({"job": {"labels": {"a": None}}}, 'job.labels["a"]', "must be text; got null"),
    "list for map": ({"job": {"labels": []}}, "job.labels", "must be an object"),
    "no base64": ({"job": {"payload": "hello world"}}, "job.payload", "must be base64; got 'hello world'"),
    "no enum": ({"job": {"priority": "HIGH"}}, "job.priority", "must be one of PRIORITY_HIGH"),
    "no duration": ({"job": {"delay": "3"}}, "job.delay", "such as \"1.5s\"; got '3'"),
    "number for duration": ({"job": {"delay": 3}}, "job.delay", 'such as "1.5s"; got 3'),
    "no time": ({"job": {"scheduleTime": "tomorrow"}}, "job.scheduleTime", "2026-11-24T10:00:00Z; got 'tomorrow'"),
    "no integer": ({"job": {"retryPolicy": {"maxAttempts": 1.5}}}, "job.retryPolicy.maxAttempts", "got 1.5"),
    "integer too large": (
        {"job": {"retryPolicy": {"maxAttempts": 2**31}}},
        "job.retryPolicy.maxAttempts",
        "2147483648",
    ),
    "text for double": ({"job": {"retryPolicy": {"jitter": "x"}}}, "job.retryPolicy.jitter", "must be a number"),
    "bool for double": ({"job": {"retryPolicy": {"jitter": True}}}, "job.retryPolicy.jitter", "got true"),
    "half a character": ({"job": {"type": "\ud800"}}, "job.type", "must be text"),
    "JSON too deep": ({"job": {"json": eval("[" * 40 + "]" * 40)}}, "job.json", "at most 30 levels"),
    "number too large": ({"job": {"type": "t", "json": 2**53 + 1}}, "job.json", "from -(2^53-1)"),
    "what gRPC refuses too": ({"job": {"type": "a b"}}, "job.type", "got 'a b'"),
    "no job": ({}, "job", "is required"),
}


@pytest.mark.parametrize(("body", "field", "words"), JOB.values(), ids=JOB)
async def test_invalid_jobs(web: Web, body: object, field: str, words: str):
    """A wrong field is 400, named by the path that the client wrote, with what is wrong with it."""
    reply = await web.post("/v1/jobs", body)
    assert (reply.status, reply.error["status"], reply.reason) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    assert words in reply.fields[field]


TEXTS: dict[str, tuple[bytes, str]] = {
    "cut off": (b'{"job":', "is not JSON: Expecting value at line 1, column 8"),
    "on another line": (b'{\n "job": {]}', "line 2, column 10"),
    "no UTF-8": (b'{"job": "\xff"}', "is not UTF-8: byte 9 is 0xff"),
    "NaN": (b'{"job": {"json": NaN}}', "NaN is no number of JSON"),
    "infinite": (b'{"job": {"json": 1e999}}', "'1e999' is too large"),
    "many digits": (b'{"job": {"json": ' + b"1" * 400 + b"}}", "400 digits"),
    "a key twice": (b'{"job": {}, "job": {}}', "the key 'job' is there twice"),
    "no object": (b"[]", "must be a JSON object"),
    "very deep": (b"[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize(("body", "words"), TEXTS.values(), ids=TEXTS)
async def test_bad_json(web: Web, body: bytes, words: str):
    """What is no JSON is 400, with the place."""
    reply = await web.post("/v1/jobs", body)
    assert (reply.status, reply.reason) == (400, "BAD_JSON")
    assert words in reply.error["message"]


QUERIES: dict[str, tuple[str, str, str]] = {
    "unknown": ("/v1/dlq?nope=1", "nope", "is no parameter of this route"),
    "unknown within": ("/v1/dlq?queue.name=1", "queue.name", "queue has no fields"),
    "no number": ("/v1/dlq?pageSize=ten", "pageSize", "must be a whole number"),
    "negative": ("/v1/dlq?pageSize=-1", "page_size", "must not be negative"),
    "twice": ("/v1/dlq?queue=a&queue=b", "queue", "is given twice"),
    "in the path": (f"/v1/jobs/{UNKNOWN_ID}?job_id=B", "job_id", "is given twice"),
    "in the path, respelled": (f"/v1/jobs/{UNKNOWN_ID}?jobId=B", "job_id", "excludes jobId"),
    "no bool": (f"/v1/jobs/{UNKNOWN_ID}?raw=yes", "raw", "must be true or false; got 'yes'"),
    "without a value": (f"/v1/jobs/{UNKNOWN_ID}?raw", "query", "must be name=value pairs"),
    "no UTF-8": ("/v1/dlq?queue=%ff", "query", "in UTF-8"),
    "a forged token": ("/v1/dlq?pageToken=x", "page_token", "must be the next_page_token"),
    "a bad id": ("/v1/jobs/abc", "job_id", "must be 26 characters"),
    "too many": ("/v1/dlq?" + "&".join(f"a{n}=1" for n in range(201)), "query", "at most 200"),
}


@pytest.mark.parametrize(("path", "field", "words"), QUERIES.values(), ids=QUERIES)
async def test_invalid_parameters(web: Web, path: str, field: str, words: str):
    """A wrong parameter is 400 and named."""
    reply = await web.get(path)
    assert (reply.status, reply.reason) in {(400, "INVALID_REQUEST"), (400, "BAD_PAGE_TOKEN")}
    assert words in reply.fields[field]


REFUSED: dict[str, tuple[str, str, object, dict[str, str], int, str]] = {
    "no route": ("GET", "/v1/nope", None, {}, 404, "NO_SUCH_ROUTE"),
    "the root": ("GET", "/", None, {}, 404, "NO_SUCH_ROUTE"),
    "an id with a slash": ("GET", "/v1/jobs/a/b", None, {}, 404, "NO_SUCH_ROUTE"),
    "unknown job": ("GET", f"/v1/jobs/{UNKNOWN_ID}", None, {}, 404, "JOB_NOT_FOUND"),
    "wrong method": ("DELETE", "/v1/dlq", None, {}, 405, "METHOD_NOT_ALLOWED"),
    "wrong method of a probe": ("POST", "/healthz", {}, {}, 405, "METHOD_NOT_ALLOWED"),
    "a method that is none": ("FROB", "/v1/jobs", {}, {}, 405, "METHOD_NOT_ALLOWED"),
    "no content type": ("POST", "/v1/jobs", b"{}", {"Content-Type": ""}, 415, "NOT_JSON"),
    "a form": ("POST", "/v1/jobs", b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "NOT_JSON"),
    "plain text": ("POST", "/v1/jobs", b"{}", {"Content-Type": "text/plain"}, 415, "NOT_JSON"),
    "a body that GET does not take": ("GET", "/v1/dlq", {"queue": "q"}, {}, 400, "BAD_JSON"),
    "a parameter that POST does not take": ("POST", "/v1/jobs?queue=q", {}, {}, 400, "INVALID_REQUEST"),
    "a body too large": ("POST", "/v1/jobs", b" " * (2**21 + 1), {}, 413, "BODY_TOO_LARGE"),
    "a message too large": (
        "POST", "/v1/jobs", {"job": {"type": "t", "json": [1] * 300_000}}, {}, 413, "BODY_TOO_LARGE",
    ),
    "headers too large": ("GET", "/healthz", None, {"X": "y" * 9_000}, 431, "HEADERS_TOO_LARGE"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_refusals(web: Web, case: tuple[str, str, object, dict[str, str], int, str]):
    """Each kind of wrong request has its code, and an error in the one shape."""
    method, path, body, headers, status, reason = case
    reply = await web.ask(method, path, body, headers=headers)
    assert (reply.status, reply.reason) == (status, reason)
    assert reply.error["message"]


async def test_allow(web: Web):
    """405 names the methods that there are."""
    assert (await web.ask("PUT", "/v1/jobs", {})).headers["allow"] == "POST"
    assert (await web.ask("POST", "/v1/dlq", {})).headers["allow"] == "GET, HEAD"


async def test_json_of_other_names(web: Web):
    """Types that end in +json are JSON, and parameters of the type do not matter."""
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"):
        reply = await web.ask("POST", "/v1/jobs", {"job": {"type": "t"}}, headers={"Content-Type": kind})
        assert reply.status == 200


async def test_a_chunked_body(web: Web):
    """A body without a length is read as far as the limit, and no further."""
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON['Content-Type']}\r\n"
    async with web.connection() as (reader, writer):
        writer.write(
            head.encode() + b'Transfer-Encoding: chunked\r\n\r\n15\r\n{"job": {"type": "t"}\r\n1\r\n}\r\n0\r\n\r\n'
        )
        assert b"200 OK" in await reader.readline()
    async with web.connection() as (reader, writer):
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write((b"10000\r\n" + b" " * 2**16 + b"\r\n") * 33)
        assert b" 413 " in await reader.readline()
