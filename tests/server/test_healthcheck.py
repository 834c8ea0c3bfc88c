"""`python -m headrace_server.healthcheck`, by which a container tells whether it serves."""

import signal
from collections.abc import Callable

from harness.processes import Process, Spawn
from harness.stores import Store
from harness.waiting import EventuallySync


def _check(spawn: Spawn, *words: str, listen: str) -> Process:
    process = spawn("python", "-m", "headrace_server.healthcheck", *words, environment={"HEADRACE_LISTEN": listen})
    process.wait()
    return process


def test_follows_the_store(
    spawn: Spawn, own_valkey: Callable[..., Store], unused_tcp_port: int, eventually_sync: EventuallySync
) -> None:
    """It ends with 0 while the server serves jobs, with 1 while Valkey is away, and with 0 again when that is back."""
    store, listen = own_valkey(), f"0.0.0.0:{unused_tcp_port}"
    server = spawn(
        "python", "-m", "headrace_server", environment={"HEADRACE_REDIS_URL": store.url, "HEADRACE_LISTEN": listen}
    )
    server.wait_for_line("serving")
    healthy = _check(spawn, listen=listen)
    assert (healthy.wait(), healthy.output) == (0, "SERVING")
    store.kill()
    eventually_sync(lambda: _check(spawn, listen=listen).wait() == 1, within=20)
    store.start_again()
    eventually_sync(lambda: _check(spawn, listen=listen).wait() == 0, within=20)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_nobody_there(spawn: Spawn, unused_tcp_port: int) -> None:
    """It ends with 1 and says UNAVAILABLE when nobody listens at the address it is given."""
    process = _check(spawn, f"127.0.0.1:{unused_tcp_port}", listen="127.0.0.1:1")
    assert (process.wait(), process.output) == (1, f"127.0.0.1:{unused_tcp_port}: UNAVAILABLE")
