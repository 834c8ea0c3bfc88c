"""The program: settings, help, and one clear line for every mistake."""

import re
import signal
import socket
from collections.abc import Callable

import grpc
import pytest
from pydantic import ValidationError

from harness.processes import Process, Spawn
from harness.stores import Store
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_server.__main__ import main
from headrace_server.settings import ServerSettings

SERVING = r'"port": (\d+)'


@pytest.fixture
def start(spawn: Spawn, valkey: str, namespace: str) -> Callable[..., Process]:
    """`start("--option", HEADRACE_X="…")`: the program, with the store and namespace of the test."""

    def start_one(*options: str, **environment: str) -> Process:
        given = {
            "HEADRACE_REDIS_URL": valkey,
            "HEADRACE_NAMESPACE": namespace,
            "HEADRACE_LISTEN": "127.0.0.1:0",
            **environment,
        }
        return spawn("python", "-m", "headrace_server", *options, environment=given)

    return start_one


def test_serve_and_stop(start: Callable[..., Process]):
    """The program serves, ends with 0 on SIGTERM and on Ctrl-C, and says nothing on the way that it should not."""
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start()
        port = process.wait_for_line(SERVING)[1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert JobServiceStub(channel).Enqueue(EnqueueRequest(job=JobSpec(type="t"))).job_id
        process.signal(number)
        assert process.wait() == 0
        assert "Traceback" not in process.output
        assert '"stopped"' in process.output


def test_help(start: Callable[..., Process]):
    """--help tells every setting with its name in the environment, its default and its meaning."""
    process = start("--help")
    assert process.wait() == 0
    told = " ".join(process.output.split())
    for name, field in ServerSettings.model_fields.items():
        assert re.search(rf"--(headrace-)?{name.replace('_', '-')}\b", told), name
        assert f"HEADRACE_{name.upper()}" in told, name
        assert " ".join(f"(default: {field.default})".split()) in told, name


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"HEADRACE_LISTEN": "nonsense"}, r"HEADRACE_LISTEN: must be host:port.*got 'nonsense'"),
        ({"HEADRACE_LISTEN": "127.0.0.1:99999"}, r"HEADRACE_LISTEN: must be host:port.*got '127.0.0.1:99999'"),
        ({"HEADRACE_SHARDS": "0"}, r"HEADRACE_SHARDS: .*greater than or equal to 1; got '0'"),
        ({"HEADRACE_SHARDS": "many"}, r"HEADRACE_SHARDS: .*valid integer.*got 'many'"),
        ({"HEADRACE_GRACE": "-1"}, r"HEADRACE_GRACE: .*greater than or equal to 0"),
        ({"HEADRACE_DURABILITY": "perfect"}, r"HEADRACE_DURABILITY: .*'fsynced' or 'replicated'; got 'perfect'"),
        ({"HEADRACE_DURABILITY_REPLICAS": "0"}, r"HEADRACE_DURABILITY_REPLICAS: .*greater than or equal to 1"),
        ({"HEADRACE_DURABILITY_TIMEOUT_MS": "0"}, r"HEADRACE_DURABILITY_TIMEOUT_MS: .*greater than or equal to 1"),
        ({"HEADRACE_LOG_LEVEL": "loud"}, r"HEADRACE_LOG_LEVEL: .*got 'loud'"),
        ({"HEADRACE_REDIS_URL": "http://user:hunter2@host"}, r"HEADRACE_REDIS_URL: .*redis"),
        ({"HEADRACE_MAX_PAYLOAD": str(2**23)}, r"HEADRACE_MAX_MESSAGE \(8388608\) must be at least"),
    ],
    ids=lambda value: next(iter(value.items())) if isinstance(value, dict) else "",
)
def test_wrong_settings(
    environment: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A wrong setting is one line that names it, the problem and the value; the exit code is 2."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        main([])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert re.fullmatch(rf"headrace-server: {line}.*\n", told), told
    assert "hunter2" not in told


def test_wrong_setting_of_the_program(start: Callable[..., Process]):
    """The program says so too, and nothing else."""
    process = start("--shards", "0")
    assert process.wait() == 2
    assert process.lines == ["headrace-server: HEADRACE_SHARDS: input should be greater than or equal to 1; got '0'"]


def test_unknown_option(start: Callable[..., Process]):
    """An option that is not there is refused with the usage."""
    process = start("--nope")
    assert process.wait() == 2
    assert "unrecognized arguments: --nope" in process.output
    assert "Traceback" not in process.output


def _last_line(process: Process) -> str:
    assert "Traceback" not in process.output
    return process.lines[-1]


def test_port_in_use(start: Callable[..., Process]):
    """A port that is taken is one line that says what to do; the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(HEADRACE_LISTEN=address)
        assert process.wait() == 1
    assert f"cannot listen on {address}: address already in use" in _last_line(process)
    assert "HEADRACE_LISTEN" in _last_line(process)


def test_no_such_address(start: Callable[..., Process]):
    """An address that is not this machine's, or no address at all, is told as that."""
    process = start(HEADRACE_LISTEN="no-such-host.invalid:1")
    assert process.wait() == 1
    assert "cannot listen on no-such-host.invalid:1: " in _last_line(process)


def test_no_store(start: Callable[..., Process]):
    """Without a store the program waits as long as it may, then says where it looked and what to do."""
    process = start(HEADRACE_REDIS_URL="redis://u:hunter2@127.0.0.1:1/0", HEADRACE_STORE_TIMEOUT="0.5")
    assert process.wait() == 1
    assert re.search(
        r"no store answers at redis://127.0.0.1:1/0 within 0.5 s: .*HEADRACE_REDIS_URL", _last_line(process)
    )
    assert "waiting for the store" in process.output
    assert "hunter2" not in process.output


def test_the_store_comes_later(start: Callable[..., Process], own_valkey: Callable[..., Store]):
    """A store that is still starting is waited for."""
    store = own_valkey()
    url = store.url
    store.kill()
    process = start(HEADRACE_REDIS_URL=url)
    process.wait_for_line("waiting for the store")
    store.start_again()
    process.wait_for_line(SERVING)
    assert process.stop() == 0


def test_stopped_while_waiting(start: Callable[..., Process]):
    """A program that still waits for its store ends at once when it is told to."""
    process = start(HEADRACE_REDIS_URL="redis://127.0.0.1:1/0")
    process.wait_for_line("waiting for the store")
    assert process.stop(within=3) == 0
    assert "Traceback" not in process.output


def test_wrong_eviction_policy(start: Callable[..., Process], own_valkey: Callable[..., Store]):
    """A store that may evict jobs is refused, with the command that sets it right."""
    store = own_valkey("--maxmemory-policy", "allkeys-lru")
    process = start(HEADRACE_REDIS_URL=store.url)
    assert process.wait() == 1
    assert "maxmemory-policy is allkeys-lru" in _last_line(process)
    assert "CONFIG SET maxmemory-policy noeviction" in _last_line(process)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:50051", "localhost:1", "0.0.0.0:65535", "unix:/tmp/x"])
def test_listen(listen: str):
    """Addresses of all kinds are accepted."""
    assert ServerSettings(listen=listen).listen == listen


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/tmp/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.org:1", False),
    ],
)
def test_is_local(listen: str, *, local: bool):
    """The server knows whether other machines can reach it, and warns when they can."""
    assert ServerSettings(listen=listen).is_local() is local


@pytest.mark.parametrize("listen", ["", ":1", "host", "host:", "host:x", "::1:5", "host:65536", "unix:", "a b:1"])
def test_listen_refused(listen: str):
    """What is no address is refused."""
    with pytest.raises(ValidationError, match="must be host:port"):
        ServerSettings(listen=listen)
