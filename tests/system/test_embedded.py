"""`python -m headrace_broker.embedded`: a real Valkey for one directory."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from harness.processes import Process, Spawn
from harness.stores import Store
from harness.waiting import EventuallySync

_READY = "Ready to accept connections unix"


def _start(spawn: Spawn, data: Path, *more: str, environment: dict[str, str] | None = None) -> Process:
    return spawn("python", "-m", "headrace_broker.embedded", "--data", str(data), *more, environment=environment)


def _url(process: Process) -> str:
    return process.wait_for_line(r" url=(\S+)")[1]


async def _config(url: str, name: str) -> str:
    async with Redis.from_url(url, decode_responses=True) as redis:
        return (await redis.config_get(name))[name]


async def test_process_that_was_started_is_valkey_itself(spawn: Spawn, tmp_path: Path) -> None:
    """The launcher becomes Valkey: same pid, on a socket in the directory, and no other process."""
    process = _start(spawn, tmp_path / "data")
    process.wait_for_line(_READY)
    async with Redis.from_url(_url(process)) as redis:
        info = await redis.info("server")
    assert info["process_id"] == process.pid
    assert list(process.family()) == [process.pid]
    assert (tmp_path / "data" / "valkey.sock").is_socket()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
        ("port", "0"),
        ("hash-max-listpack-value", "1024"),
    ],
)
async def test_settings_keep_every_job(name: str, value: str, own_valkey: Callable[..., Store]) -> None:
    """The embedded Valkey appends every write to disk, evicts nothing, and opens no port."""
    assert await _config(own_valkey().url, name) == value


async def test_data_survives_a_kill(own_valkey: Callable[..., Store]) -> None:
    """What was written and synced before a SIGKILL is there after the next start, at the same URL."""
    store = own_valkey("--appendfsync", "always")
    async with Redis.from_url(store.url) as redis:
        await redis.set("kept", "yes")
    before = store.url
    store.kill()
    store.start_again()
    assert store.url == before
    async with Redis.from_url(store.url, decode_responses=True) as redis:
        assert await redis.get("kept") == "yes"


def test_second_instance_on_a_directory_is_refused(spawn: Spawn, tmp_path: Path) -> None:
    """A second launcher on the same directory ends with exit code 3 and one line that names the holder's pid."""
    first = _start(spawn, tmp_path)
    first.wait_for_line(_READY)
    second = _start(spawn, tmp_path)
    assert second.wait() == 3
    (line,) = second.lines
    assert line.startswith(f"headrace: {tmp_path} is in use by another Valkey (pid {first.pid}). Stop that one")
    assert line.endswith("or use another directory: --data DIR")


def test_takeover_waits_for_a_dying_predecessor(spawn: Spawn, tmp_path: Path) -> None:
    """A launcher that starts while the previous Valkey is still on its way out gets the directory."""
    first = _start(spawn, tmp_path)
    first.wait_for_line(_READY)
    first.signal(signal.SIGSTOP)
    first.signal(signal.SIGTERM)
    second = _start(spawn, tmp_path)
    first.signal(signal.SIGCONT)
    second.wait_for_line(_READY)
    assert first.wait() == 0


def test_four_starts_at_once_all_succeed(spawn: Spawn, tmp_path: Path) -> None:
    """Instances with directories of their own never collide: there is no port to race for."""
    for process in [_start(spawn, tmp_path / str(number)) for number in range(4)]:
        process.wait_for_line(_READY)


async def test_port_opens_the_store_on_the_loopback_address(spawn: Spawn, tmp_path: Path, unused_tcp_port: int) -> None:
    """--port N lets other programs in over TCP, from this machine alone."""
    process = _start(spawn, tmp_path, "--port", str(unused_tcp_port))
    process.wait_for_line(_READY)
    async with Redis.from_url(f"redis://127.0.0.1:{unused_tcp_port}") as redis:
        assert await redis.ping()
    assert await _config(_url(process), "bind") == "127.0.0.1"


def test_port_in_use_is_one_clear_line(spawn: Spawn, tmp_path: Path) -> None:
    """A port that somebody listens on is refused before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = _start(spawn, tmp_path, "--port", str(port))
        assert process.wait() == 1
    assert process.lines == [
        f"headrace: cannot listen on 127.0.0.1:{port}: another process listens there; choose another --port"
    ]


async def test_long_path_puts_the_socket_in_a_private_directory(spawn: Spawn, tmp_path: Path) -> None:
    """Where DIR/valkey.sock is longer than a socket's path may be, the socket lies in a directory that only this user
    can enter, and the data still in DIR.
    """
    data = tmp_path / ("long" * 30)
    process = _start(spawn, data, environment={"TMPDIR": str(tmp_path)})
    process.wait_for_line(_READY)
    socket_path = Path(_url(process).removeprefix("unix://"))
    assert socket_path.parent.parent == tmp_path
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700
    assert (data / "appendonlydir").is_dir()
    async with Redis.from_url(_url(process)) as redis:
        assert await redis.ping()


def test_private_directory_of_somebody_else_is_refused(spawn: Spawn, tmp_path: Path) -> None:
    """A directory that others can write to never holds the socket."""
    process = _start(spawn, tmp_path / ("long" * 30), environment={"TMPDIR": str(tmp_path)})
    process.wait_for_line(_READY)
    private = Path(_url(process).removeprefix("unix://")).parent
    process.stop()
    private.chmod(0o777)
    again = _start(spawn, tmp_path / ("long" * 30), environment={"TMPDIR": str(tmp_path)})
    assert again.wait() == 1
    assert "is not a directory that only you can use" in again.output


def test_dies_with_its_parent(spawn: Spawn, tmp_path: Path, eventually_sync: EventuallySync) -> None:
    """A SIGKILL of the process that started it ends Valkey, in order, and frees the directory."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'headrace_broker.embedded', *sys.argv[1:]])"
    parent = spawn("python", "-c", script, "--data", str(tmp_path))
    parent.wait_for_line(_READY)
    parent.signal(signal.SIGKILL)
    eventually_sync(lambda: not parent.family())
    assert "Calling fsync() on the AOF file" in parent.output


def test_allocator_is_preloaded_and_named(spawn: Spawn, tmp_path: Path) -> None:
    """The wheel's Valkey runs on mimalloc, which headrace[embedded] brings on Linux; the first line says so."""
    process = _start(spawn, tmp_path)
    process.wait_for_line(_READY)
    assert process.wait_for_line(r"allocator=(\S+)")[1] == "libmimalloc.so"
    assert "libmimalloc" in Path(f"/proc/{process.pid}/maps").read_text()


def test_no_server_says_what_to_install(spawn: Spawn, tmp_path: Path) -> None:
    """Without any server binary the one line names the command that brings one."""
    launcher = Path(__file__).parents[2] / "broker" / "headrace_broker" / "embedded.py"
    process = spawn("python", "-I", "-S", str(launcher), "--data", str(tmp_path), environment={"PATH": "/nowhere"})
    assert process.wait() == 1
    assert "pip install 'headrace[embedded]'" in process.output
    assert len(process.lines) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--data", "/proc/nowhere"), "cannot make the data directory /proc/nowhere"),
        (
            ("--data", "x", "--server", "/nowhere/redis-server"),
            "--server /nowhere/redis-server: there is no such program",
        ),
        (("--data", "x", "--port", "70000"), "--port 70000: a TCP port is a number from 1 to 65535"),
    ],
)
def test_mistakes_are_answered_in_one_line(words: tuple[str, ...], reason: str, spawn: Spawn, tmp_path: Path) -> None:
    """A user's mistake ends the launcher with the reason, and never with a traceback."""
    process = spawn("python", "-m", "headrace_broker.embedded", *words, directory=tmp_path)
    assert process.wait() in {1, 2}
    assert reason in process.output
    assert "Traceback" not in process.output
