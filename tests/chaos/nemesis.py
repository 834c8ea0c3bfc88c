"""Does what the plan says to the processes on the stage, heals it again, and writes down when it did what."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar

from redis.exceptions import RedisError

from chaos.mix import QUEUES
from chaos.plan import Planned
from chaos.stage import Life, Stage
from harness.proxy import Mode
from headrace_broker import Priority
from headrace_broker.keys import GROUP

STORE_PATIENCE = 10.0
"""Seconds to try a command on a store that may be down by another fault."""
SQUEEZE = 30_000
"""Bytes that a store whose memory is squeezed may still take."""

CLOCK_MIDDLE = 600
"""Seconds that are taken from the planned amount: clocks are wrong in both directions."""

NO_PROCESS = -1
"""For faults of a link: its target names the process behind it, whatever pid that has at the time."""

Fault = Callable[[Planned], Coroutine[None, None, None]]


class Nemesis:
    """Runs a plan. Faults overlap, but for those of one process, which wait for each other."""

    KNOWN: ClassVar[dict[str, str]] = {
        "kill worker": "_kill",
        "kill server": "_kill",
        "pause worker": "_pause",
        "pause server": "_pause",
        "stop worker": "_stop",
        "stop server": "_stop",
        "kill store": "_kill_store",
        "pause store": "_pause_store",
        "flush scripts": "_flush_scripts",
        "kill connections": "_kill_connections",
        "destroy groups": "_destroy_groups",
        "slow disk": "_slow_disk",
        "shift clock": "_shift_clock",
        "rolling restart": "_roll",
        "fill memory": "_fill_memory",
        "delay": "_delay",
        "lose replies": "_lose_replies",
        "reset": "_reset",
        "swallow": "_swallow",
        "cut": "_cut",
    }
    """Its method for each kind of fault."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._log = (stage.directory / "faults.jsonl").open("a", buffering=1)

    async def run(self, plan: list[Planned]) -> None:
        """Returns when the last fault is healed."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for planned in plan:
                await asyncio.sleep(max(0, started + planned.at - time.monotonic()))
                fault: Fault = getattr(self, self.KNOWN[planned.kind])
                group.create_task(self._guarded(fault, planned), name=planned.kind)

    @staticmethod
    async def _guarded(fault: Fault, planned: Planned) -> None:
        try:
            await fault(planned)
        except Exception as error:
            error.add_note(f"while the nemesis did: {planned}")
            raise

    def _note(self, planned: Planned, *, pid: int, start: float, end: float = 0.0) -> None:
        """`end` 0: now."""
        until = (end or time.time()) * 1_000
        row = {"kind": planned.kind, "target": planned.target, "pid": pid, "start_ms": start * 1_000, "end_ms": until}
        self._log.write(json.dumps(row) + "\n")

    async def _kill(self, planned: Planned) -> None:
        life = self._stage.lives[planned.target]
        async with life.lock:
            pid, start, process = life.pid, time.time(), life.process
            assert process is not None
            life.expected_end = True
            await asyncio.to_thread(process.kill)
            self._note(planned, pid=pid, start=start)
            await life.bury(self._stage.directory / "logs")
            await asyncio.sleep(planned.seconds)
            await life.begin()

    async def roll(self, times: int) -> None:
        """Restarts everything, the store too, one process after the other, as a deployment does; so many times."""
        for _ in range(times):
            planned = Planned(at=0, kind="rolling restart", target="all")
            await self._roll(planned)
            await self._roll_store(planned)

    async def _roll(self, planned: Planned) -> None:
        for name, life in self._stage.lives.items():
            if life.rolls:
                await self._stop(replace(planned, target=name))

    async def _roll_store(self, planned: Planned) -> None:
        async with self._stage.store_in_hand():
            start = time.time()
            await asyncio.to_thread(self._stage.store.process.stop, within=30)
            await asyncio.to_thread(self._stage.store.start_again)
            self._note(replace(planned, target="store"), pid=0, start=start)

    async def _stop(self, planned: Planned) -> None:
        """As a deployment does: told to stop, waited for, started again."""
        life = self._stage.lives[planned.target]
        async with life.lock:
            pid, start, process = life.pid, time.time(), life.process
            assert process is not None
            life.expected_end = await self._drained(life)
            self._note(planned, pid=pid, start=start)
            await life.bury(self._stage.directory / "logs")
            await asyncio.sleep(planned.seconds)
            await life.begin()

    @staticmethod
    async def _drained(life: Life) -> bool:
        process = life.process
        assert process is not None
        return await asyncio.to_thread(process.stop, within=30) == 0

    async def _pause(self, planned: Planned) -> None:
        life = self._stage.lives[planned.target]
        async with life.lock:
            pid, start, process = life.pid, time.time(), life.process
            assert process is not None
            process.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(planned.seconds)
            finally:
                process.signal(signal.SIGCONT)
            self._note(planned, pid=pid, start=start)

    async def _kill_store(self, planned: Planned) -> None:
        async with self._stage.store_in_hand():
            start = time.time()
            await asyncio.to_thread(self._stage.store.kill)
            await asyncio.sleep(planned.seconds)
            await asyncio.to_thread(self._stage.store.start_again)
            self._note(planned, pid=0, start=start)

    async def _pause_store(self, planned: Planned) -> None:
        async with self._stage.store_in_hand():
            start = time.time()
            self._stage.store.process.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(planned.seconds)
            finally:
                self._stage.store.process.signal(signal.SIGCONT)
            self._note(planned, pid=0, start=start)

    async def _slow_disk(self, planned: Planned) -> None:
        async with self._stage.store_in_hand():
            start, shim = time.time(), self._stage.shims["store"]
            shim.slow_disk(planned.amount / 1_000)
            try:
                await asyncio.sleep(planned.seconds)
            finally:
                shim.slow_disk(0)
            self._note(planned, pid=0, start=start)

    async def _shift_clock(self, planned: Planned) -> None:
        start, shim = time.time(), self._stage.shims[planned.target]
        shim.shift_clock(planned.amount - CLOCK_MIDDLE)
        try:
            await asyncio.sleep(planned.seconds)
        finally:
            shim.shift_clock(0)
        self._note(planned, pid=self._stage.lives[planned.target].last_pid, start=start)

    async def _flush_scripts(self, planned: Planned) -> None:
        start = time.time()
        await self._command("SCRIPT", "FLUSH")
        self._note(planned, pid=0, start=start)

    async def _kill_connections(self, planned: Planned) -> None:
        start = time.time()
        for kind in ("normal", "pubsub"):
            await self._command("CLIENT", "KILL", "TYPE", kind)
        self._note(planned, pid=0, start=start)

    async def _destroy_groups(self, planned: Planned) -> None:
        start = time.time()
        for queue in QUEUES:
            for priority in Priority:
                await self._command("XGROUP", "DESTROY", self._stage.broker.shard(0).ready(queue, priority), GROUP)
        self._note(planned, pid=0, start=start)

    async def _fill_memory(self, planned: Planned) -> None:
        start = time.time()
        info: Any = await self._command("INFO", "memory")
        if info is not None:
            await self._command("CONFIG", "SET", "maxmemory", str(info["used_memory"] + SQUEEZE))
            await asyncio.sleep(planned.seconds)
            await self.relieve_memory()
        self._note(planned, pid=0, start=start)

    async def relieve_memory(self) -> None:
        """Takes the limit away. A store that was killed meanwhile has forgotten it."""
        await self._command("CONFIG", "SET", "maxmemory", "0")

    async def _command(self, *words: str) -> Any:
        """Sends a command to the store itself; None where it cannot be reached for too long, or has no such key."""
        deadline = time.monotonic() + STORE_PATIENCE
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(2):
                    return await self._stage.broker.redis.execute_command(*words)
            except (RedisError, OSError, TimeoutError) as error:
                if "requires the key to exist" in str(error) or "no such key" in str(error):
                    return None
                await asyncio.sleep(0.05)
        return None

    async def _delay(self, planned: Planned) -> None:
        """What is under way at its end comes late, too: there and back."""
        await self._misbehave(planned, Mode(delay=planned.amount / 1_000), lasting=2 * planned.amount / 1_000)

    async def _lose_replies(self, planned: Planned) -> None:
        await self._misbehave(planned, Mode(lose_replies=True))

    async def _swallow(self, planned: Planned) -> None:
        await self._misbehave(planned, Mode(swallow=True))

    async def _cut(self, planned: Planned) -> None:
        await self._misbehave(planned, Mode(cut_after=planned.amount))

    async def _reset(self, planned: Planned) -> None:
        start = time.time()
        self._stage.links[planned.target].reset()
        self._note(planned, pid=NO_PROCESS, start=start)

    async def _misbehave(self, planned: Planned, mode: Mode, *, lasting: float = 0.0) -> None:
        link = self._stage.links[planned.target]
        start = time.time()
        link.mode = mode
        try:
            await asyncio.sleep(planned.seconds)
        finally:
            if link.mode is mode:  # else another fault has begun on this link, and goes on
                link.pass_on()
        self._note(planned, pid=NO_PROCESS, start=start, end=time.time() + lasting)
