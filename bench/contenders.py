"""Whom we measure: headrace and its peers, each in an environment of its own and in its fastest reliable settings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.stage import ROOT, Program, ProgramFailedError, Stage

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".venv-bench"
_ENQUEUE = 300.0  # seconds that a producer gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """How to install it, how to run its worker, and how many jobs it gets, so that each takes a few seconds."""

    name: str
    jobs: int
    script: tuple[str, ...]
    """The command that plays a role of peers/script.py."""
    worker: tuple[str, ...]
    """The command that runs one worker process."""
    ready: str
    """What the worker says when it is up."""
    requirements: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    schedules: bool = True
    """Whether it can run a job at a given time without another process."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where its packages are."""
        return ENVIRONMENTS / self.name

    def can_run(self) -> bool:
        """Whether this machine has what it needs."""
        return not self.npm or shutil.which("npm") is not None

    def install(self) -> None:
        """Make its environment, unless it is there."""
        wanted = "\n".join(self.requirements + self.npm)
        stamp = self.home / "installed"
        if not wanted or (stamp.exists() and stamp.read_text() == wanted):
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        if self.npm:
            _run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(self.home), *self.npm)
        else:
            _run(sys.executable, "-m", "venv", str(self.home))
            _run(str(self.home / "bin/python"), "-m", "pip", "install", "--quiet", *self.requirements)
        stamp.write_text(wanted)

    def start(self, stage: Stage, **environment: str) -> Program:
        """Start one worker process; returns when it is up."""
        program = stage.start(
            self.name, *self.worker, environment=self._environment(stage, environment), within=self._within
        )
        program.wait_for(self.ready)
        return program

    def play(self, stage: Stage, role: str, *numbers: float, **environment: str) -> dict[str, object]:
        """Play a role of peers/script.py to its end. Returns what it tells."""
        words = [role, *(str(number) for number in numbers)]
        full = self._environment(stage, environment)
        program = stage.start(f"{self.name}-{role}", *self.script, *words, environment=full, within=self._within)
        program.wait(within=_ENQUEUE)
        lines = [line for line in program.log.read_text().splitlines() if line.startswith("{")]
        if not lines:
            raise ProgramFailedError(f"{program.name} told nothing:\n{program.tail()}")
        told: dict[str, object] = json.loads(lines[-1])
        return told

    @property
    def _within(self) -> Path:
        return PEERS if self.requirements or self.npm else ROOT

    def _environment(self, stage: Stage, more: Mapping[str, str]) -> dict[str, str]:
        ours = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "REDIS_URL": stage.url}
        return {**ours, **self.environment, **more}


def _python(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin/python")


HEADRACE = Contender(
    name="headrace",
    jobs=40_000,
    script=(sys.executable, "-m", "bench.peers.peer_headrace"),
    worker=(sys.executable, "-m", "headrace_worker", "bench.peers.peer_headrace:worker"),
    ready="worker ready",
)

CONTENDERS = (
    HEADRACE,
    Contender(
        name="arq",
        jobs=4_000,
        script=(_python("arq"), "peer_arq.py"),
        worker=(_python("arq"), "-m", "arq", "peer_arq.WorkerSettings"),
        ready="peer ready",
        requirements=("arq==0.28.0",),
    ),
    Contender(
        name="taskiq",
        jobs=5_000,
        script=(_python("taskiq"), "peer_taskiq.py"),
        worker=(
            *(_python("taskiq"), "-m", "taskiq", "worker", "peer_taskiq:broker", "--workers", "1"),
            *("--max-async-tasks", "200", "--ack-type", "when_executed"),
        ),
        ready="peer ready",
        requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4"),
        schedules=False,
    ),
    Contender(
        name="celery",
        jobs=3_000,
        script=(_python("celery"), "peer_celery.py"),
        worker=(
            *(_python("celery"), "-m", "celery", "-A", "peer_celery", "worker", "--pool", "threads"),
            *("--concurrency", "8", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        ),
        ready="peer ready",
        requirements=("celery[redis]==5.7.0",),
    ),
    Contender(
        name="dramatiq",
        jobs=5_000,
        script=(_python("dramatiq"), "peer_dramatiq.py"),
        worker=(_python("dramatiq"), "-m", "dramatiq", "peer_dramatiq", "--processes", "1", "--threads", "8"),
        ready="peer ready",
        requirements=("dramatiq[redis]==2.2.1",),
    ),
    Contender(
        name="bullmq (node)",
        jobs=20_000,
        script=("node", "peer_bullmq.mjs"),
        worker=("node", "peer_bullmq.mjs", "work"),
        ready="peer ready",
        npm=("bullmq@5",),
        environment={"BENCH_NODE_MODULES": str(ENVIRONMENTS / "bullmq (node)" / "node_modules")},
    ),
)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramFailedError(f"{' '.join(command)} failed:\n{done.stderr[-2_000:]}")
