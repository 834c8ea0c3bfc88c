"""`--reload`: run the worker as a child, and start it anew when the code changes. For development."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from watchfiles import PythonFilter, watch

_PR_SET_PDEATHSIG = 1

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Reloader:
    """Watches the current directory, and owns the worker process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._stop = threading.Event()
        self._signals = 0
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Runs until SIGTERM or Ctrl-C. Returns the last worker's exit code. One that failed waits for a change."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._start()
        here = Path.cwd()
        log.info("reloading on changes", directory=str(here))
        for changes in watch(here, watch_filter=PythonFilter(), stop_event=self._stop, raise_interrupt=False):
            names = sorted({Path(path).relative_to(here).as_posix() for _, path in changes})
            log.info("code changed, restarting the worker", files=names[:5])
            self._end()
            if self._stop.is_set():
                break
            self._start()
        return self._end()

    def _start(self) -> None:
        self._child = subprocess.Popen(  # noqa: S603  the command that this process was started with
            self._command,
            start_new_session=True,  # a Ctrl-C in the terminal reaches us alone: the worker gets one signal, not two
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  no thread of ours holds a lock
        )

    def _end(self) -> int:
        """Has the worker drain, and waits until it is gone."""
        assert self._child is not None
        self._send(signal.SIGTERM)
        return self._child.wait()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            self._send(signal.Signals(number))  # the worker's second one, on which it leaves at once

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)


def _die_with_parent() -> None:
    """In the child, before it becomes the worker: have the kernel send it SIGTERM when this process dies."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
