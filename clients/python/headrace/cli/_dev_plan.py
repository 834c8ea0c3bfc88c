"""What `headrace dev` will run: the user's options, checked before anything starts, and the programs they mean."""

import importlib.util
import os
import re
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.cli._dev_program import Program

DEFAULT_WORKER = "headrace_worker.echo:worker"
DEFAULT_LISTEN = "127.0.0.1:50051"
DEFAULT_HTTP_LISTEN = "127.0.0.1:8080"

_LOUD_LEVELS = {"debug", "info"}
_NEEDED = ("redis", "structlog", "pydantic_settings", "grpc_health")
_STORE_READY = re.compile(r"Ready to accept connections unix|ready to accept connections at")
_SERVER_READY = re.compile(r"\bserving\b")
_WORKER_READY = re.compile(r"\bworker ready\b")
_LARGEST_PORT = 65_535


class BadOptionsError(Exception):
    """Why nothing was started, in one line for the person at the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for. `http_listen` "" means no HTTP; `redis_url` "" means the embedded Valkey; `redis_port` 0
    means its Unix socket alone; `concurrency` 0 means the worker's own.
    """

    worker: str
    data: Path
    listen: str
    http_listen: str
    redis_url: str
    redis_port: int
    reload: bool
    concurrency: int


def check(options: Options) -> Options:
    """The options with ports 0 replaced by free ports. Raises BadOptionsError for what cannot work."""
    if sys.platform == "win32":
        raise BadOptionsError("dev runs on Linux and macOS; on Windows use it inside WSL")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BadOptionsError(f"dev needs {', '.join(missing)}, not installed here: pip install 'headrace[embedded]'")
    module, _, attribute = options.worker.partition(":")
    if not module or not attribute:
        raise BadOptionsError(f"--worker {options.worker}: expected MODULE:ATTRIBUTE, such as myapp.jobs:worker")
    if options.redis_port:
        _bindable(f"127.0.0.1:{options.redis_port}", "--redis-port")
    off = options.http_listen in {"", "0"}
    http_listen = "" if off else _bindable(options.http_listen, "--http-listen")
    listen = options.listen if options.listen.startswith("unix:") else _bindable(options.listen, "--listen")
    return replace(options, listen=listen, http_listen=http_listen)


def store(options: Options) -> Program:
    """The embedded Valkey: `headrace_broker.embedded`, run as a file, for importing its package would take longer than
    Valkey's whole start.
    """
    port = ("--port", str(options.redis_port)) if options.redis_port else ()
    command = (sys.executable, "-P", _file_of("headrace_broker", "embedded.py"), "--data", str(options.data), *port)
    return Program(name="valkey", command=command, environment=dict(os.environ), ready=_STORE_READY)


def server(options: Options, redis_url: str) -> Program:
    """The server, for gRPC and HTTP."""
    command = (sys.executable, "-m", "headrace_server")
    environment = {**_environment(redis_url), "HEADRACE_LISTEN": options.listen}
    environment["HEADRACE_HTTP_LISTEN"] = options.http_listen
    return Program(name="server", command=command, environment=environment, ready=_SERVER_READY)


def worker(options: Options, redis_url: str) -> Program:
    """The worker process."""
    reload = ("--reload",) if options.reload else ()
    concurrency = ("--concurrency", str(options.concurrency)) if options.concurrency else ()
    command = (sys.executable, "-m", "headrace_worker", options.worker, *reload, *concurrency)
    return Program(name="worker", command=command, environment=_environment(redis_url), ready=_WORKER_READY)


def _file_of(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None  # it is in the same distribution as this module
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / name)


def _environment(redis_url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    level = inherited.get("HEADRACE_LOG_LEVEL", "info")
    return {
        "HEADRACE_LOG_FORMAT": "console",
        **inherited,
        "HEADRACE_LOG_LEVEL": level if level.lower() in _LOUD_LEVELS else "info",  # "ready" is said at info
        "HEADRACE_REDIS_URL": redis_url,
        "PYTHONUNBUFFERED": "1",
    }


def _bindable(address: str, option: str) -> str:
    """The address, with port 0 replaced by a free port. Raises BadOptionsError when nobody can listen there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LARGEST_PORT:
        raise BadOptionsError(f"{option} {address}: expected HOST:PORT, such as {DEFAULT_LISTEN}")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            return f"{host}:{probe.getsockname()[1]}"
    except OSError as error:
        raise BadOptionsError(
            f"cannot listen on {address}: {error.strerror or error}. Stop what listens there, or change {option}"
        ) from error
