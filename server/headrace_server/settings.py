"""The server's settings, from the environment or the command line."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from headrace_broker import BrokerSettings, Confirmation, Durability
from headrace_server._watch import Pace
from headrace_server.http.guard import ANY, LOCAL

KIB = 1024
MIB = 1024 * KIB
ENVELOPE = 64 * KIB
"""Bytes that everything else in a request may take beside the content."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,]+")
_LISTEN = re.compile(r"(?P<host>[^\[\]:/\s]+|\[[0-9A-Fa-f:.%]+\]):(?P<port>\d{1,5})|unix:(?P<path>\S+)")


class ServerSettings(BrokerSettings):
    """Takes jobs over gRPC and tells what becomes of them. Every option can also be given in the environment."""

    model_config = SettingsConfigDict(cli_prog_name="headrace-server", cli_kebab_case=True, cli_hide_none_type=True)

    listen: str = Field(
        default="127.0.0.1:50051",
        description="Where to serve: host:port, [IPv6]:port or unix:/path; port 0 takes a free one. Whoever reaches it "
        "may enqueue and read jobs (env HEADRACE_LISTEN)",
    )
    http_listen: str = Field(
        default="127.0.0.1:8080",
        description="Where to serve HTTP/JSON: host:port or [IPv6]:port; port 0 takes a free one; 0: nowhere. "
        "Whoever reaches it may enqueue and read jobs (env HEADRACE_HTTP_LISTEN)",
    )
    http_hosts: str = Field(
        default="",
        description="Names in the Host header that HTTP requests may be meant for, without ports, with commas between "
        "them; * for any. Empty: those of this machine where HTTP is served on the loopback interface, else any "
        "(env HEADRACE_HTTP_HOSTS)",
    )
    http_origins: str = Field(
        default="",
        description="Origins whose pages may call over HTTP from a browser (CORS), such as https://app.example.org, "
        "with commas between them; * for any. Empty: none (env HEADRACE_HTTP_ORIGINS)",
    )
    http_patience: float = Field(
        default=30.0,
        ge=0.1,
        le=3_600,
        description="Seconds that an HTTP client gets to send the head of a request, and its body, and to read on "
        "after it has stopped reading (env HEADRACE_HTTP_PATIENCE)",
    )
    grace: float = Field(
        default=10.0,
        ge=0,
        le=3_600,
        description="Seconds that calls under way get to end when the server is stopped (env HEADRACE_GRACE)",
    )
    durability: Literal["accepted", "fsynced", "replicated"] = Field(
        default="accepted",
        description="How safely a job is stored before its producer is answered, where the request does not say: "
        "accepted, fsynced (on disk; takes a store with appendfsync always) or replicated (env HEADRACE_DURABILITY)",
    )
    durability_replicas: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Replicas that must have a job for it to be replicated (env HEADRACE_DURABILITY_REPLICAS)",
    )
    durability_timeout_ms: int = Field(
        default=1_000,
        ge=1,
        le=20_000,
        description="Milliseconds to wait for replicas. A job that is not confirmed by then is stored all the "
        "same, and its producer told that it is not confirmed (env HEADRACE_DURABILITY_TIMEOUT_MS)",
    )
    max_payload: int = Field(
        default=MIB,
        ge=1,
        le=64 * MIB,
        description="Bytes of content that one job may have (env HEADRACE_MAX_PAYLOAD)",
    )
    max_message: int = Field(
        default=8 * MIB,
        ge=128 * KIB,
        le=512 * MIB,
        description="Bytes of one request or answer; bounds a whole batch (env HEADRACE_MAX_MESSAGE)",
    )
    max_watchers: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="StreamStatus calls served at a time (env HEADRACE_MAX_WATCHERS)",
    )
    max_calls: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="Other calls served at a time (env HEADRACE_MAX_CALLS)",
    )
    max_connections: int = Field(
        default=4_096,
        ge=1,
        le=1_000_000,
        description="Connections accepted at a time (env HEADRACE_MAX_CONNECTIONS)",
    )
    heartbeat: float = Field(
        default=12.0,
        ge=0.05,
        le=15,
        description="Seconds between two heartbeats of a watch (env HEADRACE_HEARTBEAT)",
    )
    watch_age: float = Field(
        default=1_800.0,
        ge=1,
        le=86_400,
        description="Seconds after which a watcher is asked to open a new stream, so that load spreads "
        "(env HEADRACE_WATCH_AGE)",
    )
    connection_age: float = Field(
        default=1_800.0,
        ge=1,
        le=86_400,
        description="Seconds after which a client is asked to open a new connection, so that load spreads "
        "(env HEADRACE_CONNECTION_AGE)",
    )
    connection_idle: float = Field(
        default=900.0,
        ge=1,
        le=86_400,
        description="Seconds without a call after which a connection is closed (env HEADRACE_CONNECTION_IDLE)",
    )
    keepalive: float = Field(
        default=60.0,
        ge=1,
        le=7_200,
        description="Seconds of silence after which a client is asked for a sign of life; it has as long again for it, "
        "20 s at the most (env HEADRACE_KEEPALIVE)",
    )
    reflection: bool = Field(
        default=True,
        description="Whether tools such as grpcurl may ask what the server serves (env HEADRACE_REFLECTION)",
    )

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        found = _LISTEN.fullmatch(listen)
        if found is None or int(found["port"] or 0) > 65_535:  # noqa: PLR2004  the largest port there is
            raise ValueError("must be host:port, [IPv6]:port or unix:/path, such as 127.0.0.1:50051")
        return listen

    @field_validator("http_listen")
    @classmethod
    def _check_http_listen(cls, listen: str) -> str:
        if listen in {"", "0"}:
            return ""
        if listen.startswith("unix:"):
            raise ValueError("must be host:port or [IPv6]:port, such as 127.0.0.1:8080, or 0 for no HTTP")
        return cls._check_listen(listen)

    @field_validator("http_origins")
    @classmethod
    def _check_http_origins(cls, origins: str) -> str:
        for origin in _names_in(origins):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("must be scheme://host or scheme://host:port, such as https://app.example.org")
        return origins

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.max_message < self.max_payload + ENVELOPE:
            raise ValueError(
                f"HEADRACE_MAX_MESSAGE ({self.max_message}) must be at least HEADRACE_MAX_PAYLOAD ({self.max_payload}) "
                f"plus {ENVELOPE} bytes for the rest of a request"
            )
        return self

    def confirmation(self) -> Confirmation:
        """How jobs are confirmed."""
        default = Durability(self.durability)
        return Confirmation(default=default, replicas=self.durability_replicas, timeout_ms=self.durability_timeout_ms)

    def is_local(self) -> bool:
        """Whether only this machine can reach the server over gRPC."""
        return self.listen.startswith("unix:") or _is_loopback(self.listen)

    def http_is_local(self) -> bool:
        """Whether only this machine can reach the server over HTTP."""
        return not self.http_listen or _is_loopback(self.http_listen)

    def allowed_hosts(self) -> frozenset[str]:
        """The names that HTTP requests may be meant for, in lower case; {"*"} for any."""
        if self.http_hosts:
            return frozenset(name.lower() for name in _names_in(self.http_hosts))
        return LOCAL | {self.http_listen.rpartition(":")[0]} if self.http_is_local() else frozenset({ANY})

    def allowed_origins(self) -> frozenset[str]:
        """The origins whose pages may call over HTTP; {"*"} for any."""
        return frozenset(_names_in(self.http_origins))

    def pace(self) -> Pace:
        """The times of a watch."""
        return Pace(heartbeat=self.heartbeat, age=self.watch_age)


def _names_in(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may stand for anything
        return False
