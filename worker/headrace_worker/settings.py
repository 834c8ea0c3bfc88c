"""The worker's settings, from the environment or the command line."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from headrace_broker import BrokerSettings

MIB = 1024 * 1024
_NAMES = r"[A-Za-z0-9_.-]{1,128}"


class WorkerSettings(BrokerSettings):
    """Runs jobs. Every option can also be given in the environment."""

    model_config = SettingsConfigDict(cli_prog_name="headrace-worker", cli_kebab_case=True, cli_hide_none_type=True)

    queues: str = Field(
        default="",
        pattern=rf"^({_NAMES}(,{_NAMES})*)?$",
        description="Queues to take jobs from, with commas between them, in place of those that the Worker names "
        "(env HEADRACE_QUEUES)",
    )
    concurrency: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Jobs that run at a time, in place of what the Worker says; 0: what it says "
        "(env HEADRACE_CONCURRENCY)",
    )
    grace: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="Seconds that running jobs get to end when the worker is stopped; then they are given back. "
        "A second signal ends it at once (env HEADRACE_GRACE)",
    )
    max_result: int = Field(
        default=MIB,
        ge=0,
        le=64 * MIB,
        description="Bytes that the result of one job may have (env HEADRACE_MAX_RESULT)",
    )
