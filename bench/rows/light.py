"""The speed of light: the store's own commands for the same work, pipelined, with nothing of a queue around them.

They are packed and parsed by hiredis on a bare socket, so that the store is what is measured. It keeps no promise: no
fencing, no history, no events, no state machine.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import hiredis

from bench.rows.race import Result
from bench.stage import fresh_stage

_JOBS = 40_000
_BATCH = 100
_STREAM, _GROUP = "stream", "workers"

_Command = tuple[str | bytes | int, ...]


def bare_commands() -> Result:
    """Jobs/s that one process enqueues, and works off, in pipelines of 100 jobs."""
    with fresh_stage() as stage:
        place = urlsplit(stage.url)
        with socket.create_connection((place.hostname, place.port)) as connection:
            return _measure(_Store(connection))


class _Store:
    """One connection, one pipeline at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()

    def run(self, commands: Iterable[_Command]) -> list[object]:
        """Send all commands at once, and wait for all replies."""
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub means one word
        self._connection.sendall(b"".join(packed))
        replies: list[object] = []
        while len(replies) < len(packed):
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
            if len(replies) < len(packed):
                self._reader.feed(self._connection.recv(1 << 18))
        return replies


def _measure(store: _Store) -> Result:
    store.run([("XGROUP", "CREATE", _STREAM, _GROUP, "0", "MKSTREAM")])
    begun = time.monotonic()
    for at in range(0, _JOBS, _BATCH):
        store.run(_enqueue(range(at, at + _BATCH)))
    enqueued = time.monotonic()
    for _ in range(0, _JOBS, _BATCH):
        _work(store)
    worked = time.monotonic()
    numbers = {"bare enqueue": _JOBS / (enqueued - begun), "bare process": _JOBS / (worked - enqueued)}
    return Result(numbers=numbers, counts={})


def _enqueue(numbers: range) -> Iterable[_Command]:
    """A record and a stream entry for each job."""
    for n in numbers:
        yield "HSET", f"job:{n}", "state", "QUEUED", "payload", f'{{"n":{n}}}'
        yield "XADD", _STREAM, "*", "j", n


def _work(store: _Store) -> None:
    """Read, mark as running with the payload read, mark as done, acknowledge, delete."""
    [read] = store.run([("XREADGROUP", "GROUP", _GROUP, "w", "COUNT", _BATCH, "STREAMS", _STREAM, ">")])
    assert isinstance(read, list)
    jobs = [(entry, b"job:" + fields[1]) for entry, fields in read[0][1]]
    begin: list[_Command] = []
    end: list[_Command] = []
    for entry, key in jobs:
        begin += [("HSET", key, "state", "PROCESSING"), ("HGET", key, "payload")]
        end += [("HSET", key, "state", "SUCCEEDED"), ("PEXPIRE", key, 3_600_000)]
        end += [("XACK", _STREAM, _GROUP, entry), ("XDEL", _STREAM, entry)]
    store.run(begin)
    store.run(end)
