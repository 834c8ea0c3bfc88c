"""The processes of a chaos run: one store, servers, workers, the load, and a proxy on each connection between them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from chaos.mix import CANARY
from harness.processes import Process, start
from harness.proxy import Proxy
from harness.shim import Shim, compiled, compiler
from harness.stores import Store
from headrace_broker import Broker

TESTS = Path(__file__).parent.parent
LEASE = 1.0
GRACE = 5
START_PATIENCE = 60
"""Seconds that a process may need to start on a machine that has much to do."""
SUDDEN_ENDS = {9, -9}
"""Exit codes of a process that a poison job ended, or the nemesis."""
_FAULTS_OF_OURS = re.compile(
    r"Traceback|fault in the worker|duty failed|a role of the worker failed|outcome not written|Task exception"
    r"|never retrieved|never awaited|unhandled|INTERNAL"
)
_HANDLERS_FAULTS = re.compile(r'"event": "(attempt failed|job failed for good)"')
_ONE_FOR_EACH = re.compile(r'"event": "(call|attempt failed|job failed for good|lease|the handler)')
"""Lines that there is one of for each call or job: they say how much goes wrong, not that something runs hot."""


class Life:
    """A process that is started again whenever it ends. Its lives are kept, with all that they said."""

    def __init__(self, *, name: str, launch: Callable[[], Process], ready: str, rolls: bool = True) -> None:
        """`rolls`: whether a rolling restart concerns it."""
        self.name = name
        self.rolls = rolls
        self.last_pid = 0
        self.lock = asyncio.Lock()
        self.expected_end = False
        self._launch = launch
        self._ready = ready
        self._past: list[dict[str, Any]] = []
        self.process: Process | None = None
        self._started = 0.0

    @property
    def pid(self) -> int:
        """The process that lives now."""
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it lives now."""
        return self.process is not None and self.process.running

    async def begin(self) -> None:
        """Starts it; returns when it is ready, or has ended again."""
        self.expected_end, self._started = False, time.time() * 1_000
        process = await asyncio.to_thread(self._launch)
        self.process, self.last_pid = process, process.pid
        try:
            await asyncio.to_thread(process.wait_for_line, self._ready, within=START_PATIENCE)
        except AssertionError:
            if process.running:
                raise

    async def bury(self, directory: Path, *, to_the_end: bool = False) -> None:
        """Notes how it ended, keeps its output, and sees that no child of it is left."""
        process = self.process
        if process is None:
            return
        code = None if process.running else await asyncio.to_thread(process.wait)
        ended = time.time() * 1_000
        await asyncio.to_thread(process.close)
        (directory / f"{self.name}.{len(self._past) + 1}.log").write_text(process.output)
        self._past.append(
            {
                "name": self.name,
                "pid": process.pid,
                "start_ms": self._started,
                "end_ms": ended,
                "exit_code": code,
                "expected_end": self.expected_end,
                "to_the_end": to_the_end,
                **_said(process.lines, sudden=code in SUDDEN_ENDS),
            }
        )
        self.process = None

    def lives(self) -> list[dict[str, Any]]:
        """Returns what is known of all its lives that are over."""
        return self._past


def _said(lines: list[str], *, sudden: bool) -> dict[str, Any]:
    """Sums up what a process said. When it ends suddenly, the processes that it was about to start complain."""
    told = [line for line in lines if not _ONE_FOR_EACH.search(line)]
    seconds = Counter(found[0] for line in told if (found := re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)))
    heard = [line for line in lines if line.startswith("{")] if sudden else lines
    ours = [line for line in heard if _FAULTS_OF_OURS.search(line) and not _HANDLERS_FAULTS.search(line)]
    return {
        "busiest_second": max(seconds.values(), default=0),
        "errors": ours[:20],
        "leaks": [line for line in lines if CANARY in line][:20],
    }


class Stage:
    """Everything that runs. `async with` starts it all, and leaves nothing behind."""

    def __init__(
        self, *, directory: Path, workers: int, servers: int, rate: float, seed: int, lease: float, gentle: bool = False
    ) -> None:
        """`gentle`: the load is only of jobs that succeed."""
        self.directory = directory
        self.links: dict[str, Proxy] = {}
        self.lives: dict[str, Life] = {}
        self.shims: dict[str, Shim] = {}
        self._store_lock = asyncio.Lock()
        self.times_in_hand = 0
        self.epoch = time.time() - time.monotonic()
        """When the monotonic clock was 0, by the wall clock of this process, which nobody sets wrong."""
        self._counts = {"worker": workers, "server": servers}
        self._rate = rate
        self._gentle = gentle
        self._lease = lease
        self._seed = seed
        self._stack = AsyncExitStack()
        self._keepers: list[asyncio.Task[None]] = []
        (directory / "logs").mkdir()

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        for life in self.lives.values():
            if life.process is not None:
                await asyncio.to_thread(life.process.close)
        await self._stack.aclose()

    async def _begin(self) -> None:
        self._shim_all()
        options = ("--appendfsync", "always")
        environment = self.shims["store"].environment if self.shims else {}
        self.store = await asyncio.to_thread(
            lambda: Store(data=self.directory / "store", options=options, environment=environment)
        )
        self._stack.callback(self.store.close)
        self.broker = Broker(url=self.store.url, lease_ms=int(self._lease * 1_000))
        self._stack.push_async_callback(self.broker.aclose)
        place = self.store.url.removeprefix("unix://")
        for kind, count in self._counts.items():
            for n in range(count):
                name = f"{kind}-{n}"
                link = await self._link(f"{name} to store", f"unix:{place}")
                launch = self._worker(name, link.port) if kind == "worker" else self._server(link.port, _free_port())
                ready = "worker ready" if kind == "worker" else '"port": '
                self.lives[name] = Life(name=name, launch=launch, ready=ready)
        await asyncio.gather(*(life.begin() for life in self.lives.values()))
        for life in self.lives.values():
            assert life.runs, f"{life.name} does not start: {life.process}"
        self._keepers = [
            asyncio.create_task(self._keep(life), name=f"keep {name}") for name, life in self.lives.items()
        ]

    @property
    def store_is_in_hand(self) -> bool:
        """Whether a fault of the store is under way."""
        return self._store_lock.locked()

    @asynccontextmanager
    async def store_in_hand(self) -> AsyncIterator[None]:
        """For a fault of the store itself: one after the other."""
        async with self._store_lock:
            self.times_in_hand += 1
            yield

    def _shim_all(self) -> None:
        """Gives the store and each worker a disk and a clock that can be made wrong, where there is a compiler."""
        if not compiler():
            return
        library = compiled(self.directory)
        for name in ("store", *(f"worker-{n}" for n in range(self._counts["worker"]))):
            self.shims[name] = Shim(library=library, control=self.directory / f"shim of {name}")

    async def _link(self, name: str, target: str) -> Proxy:
        self.links[name] = await self._stack.enter_async_context(Proxy(target))
        return self.links[name]

    async def begin_load(self) -> Life:
        """Starts producers and watchers, each behind a proxy of its server."""
        targets = []
        for n in range(self._counts["server"]):
            output = self.lives[f"server-{n}"].process
            assert output is not None
            port = output.wait_for_line(r'"port": (\d+)')[1]
            targets += [
                "--target",
                f"127.0.0.1:{(await self._link(f'clients to server-{n}', f'127.0.0.1:{port}')).port}",
            ]
        log = str(self.directory / "client.jsonl")
        command = (
            "python",
            "-m",
            "chaos.load",
            *targets,
            "--seed",
            str(self._seed),
            "--rate",
            str(self._rate),
            "--log",
            log,
            *(["--gentle"] if self._gentle else []),
        )
        load = Life(name="load", launch=lambda: start(*command, environment=_paths()), ready="load ready", rolls=False)
        self.lives["load"] = load
        await load.begin()
        return load

    async def run_burst(self, name: str, *, jobs: int) -> None:
        """Has a client of its own send short-lived jobs to the first server, and waits for its end."""
        target = f"127.0.0.1:{self.links['clients to server-0'].port}"
        command = ("python", "-m", "chaos.load", "--target", target, "--seed", str(self._seed), "--burst", str(jobs))
        process = await asyncio.to_thread(lambda: start(*command, environment=_paths()))
        try:
            await asyncio.to_thread(process.wait_for_line, "load done", within=60)
        finally:
            await asyncio.to_thread(process.close)
            (self.directory / "logs" / f"{name}.log").write_text(process.output)

    def _worker(self, name: str, port: int) -> Callable[[], Process]:
        effects = {"CHAOS_EFFECTS": str(self.directory / "effects.jsonl"), "CHAOS_EPOCH": repr(self.epoch)}
        shim = self.shims[name].environment if self.shims else {}
        environment = {**_paths(), **_settings(port, self._lease), **effects, **shim}
        return lambda: start("python", "-m", "headrace_worker", "chaos.handlers:worker", environment=environment)

    def _server(self, port: int, listen: int) -> Callable[[], Process]:
        environment = {**_paths(), **_settings(port, self._lease), "HEADRACE_LISTEN": f"127.0.0.1:{listen}"}
        return lambda: start("python", "-m", "headrace_server", environment=environment)

    async def _keep(self, life: Life) -> None:
        """Starts a process again that ended by itself. Faults hold the lock of the process that they are at."""
        while True:
            await asyncio.sleep(0.1)
            async with life.lock:
                if life.process is not None and not life.process.running:
                    await life.bury(self.directory / "logs")
                    await life.begin()

    async def end(self) -> None:
        """Tells everybody to stop, and notes how they did."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*(self._end(life) for life in self.lives.values()))

    async def _end(self, life: Life) -> None:
        if life.process is not None and life.process.running:
            code = await asyncio.to_thread(life.process.stop, within=GRACE + 10)
            life.expected_end = code == 0
        await life.bury(self.directory / "logs", to_the_end=True)

    def keep_store_log(self) -> None:
        """Copies what the store said."""
        (self.directory / "logs" / "store.log").write_text(self.store.process.output)

    def remove(self) -> None:
        """Deletes the run's directory."""
        shutil.rmtree(self.directory)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _settings(port: int, lease: float) -> dict[str, str]:
    return {
        "HEADRACE_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "HEADRACE_LEASE": str(lease),
        "HEADRACE_GRACE": str(GRACE),
        "HEADRACE_LOG_FORMAT": "json",
        "HEADRACE_STORE_TIMEOUT": "60",
    }


def _paths() -> dict[str, str]:
    """What a mutant puts before the packages comes first for the processes, too."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(TESTS)]))}
