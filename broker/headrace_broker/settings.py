"""Settings that the server and the worker share, from the environment. Each process adds its own in its settings.py."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace_broker.address import read_address
from headrace_broker.broker import Broker
from headrace_broker.confirm import Confirmation
from headrace_broker.job import SECOND
from headrace_broker.keys import MAX_SHARDS


class BrokerSettings(BaseSettings):
    """Where the jobs are, and how this process speaks of its work."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", populate_by_name=True, extra="ignore", frozen=True)

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("HEADRACE_REDIS_URL", "REDIS_URL"),
        description="Valkey or Redis: redis://[[user]:password@]host:port/db, rediss:// for TLS, unix:///path/to.sock; "
        "redis+sentinel://host:port,host:port/service/db and redis+cluster://host:port,host:port, rediss+… for TLS "
        "(env HEADRACE_REDIS_URL or REDIS_URL)",
    )
    namespace: str = Field(
        default="headrace",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What the names of all keys begin with; the same in every process (env HEADRACE_NAMESPACE)",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=MAX_SHARDS,
        description="Parts that the jobs are spread over, for a cluster; may grow, never shrink; "
        "the same in every process (env HEADRACE_SHARDS)",
    )
    lease: float = Field(
        default=30.0,
        ge=0.5,
        le=3_600,
        description="Seconds until the job of a silent worker is given to another one; "
        "the same in every process (env HEADRACE_LEASE)",
    )
    dlq_retention: float = Field(
        default=30.0,
        ge=0,
        le=3_650,
        description="Days that dead letters are kept (env HEADRACE_DLQ_RETENTION)",
    )
    repair_every: float = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description="Seconds in which every job is looked at once, to mend what should not be possible; 0: as long as "
        "the lease. More than 10,000 keys for each of these seconds take longer (env HEADRACE_REPAIR_EVERY)",
    )
    store_timeout: float = Field(
        default=30.0,
        ge=0,
        le=3_600,
        description="Seconds to wait for the store at the start (env HEADRACE_STORE_TIMEOUT)",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description="Log lines for people or for programs; auto: console on a terminal, else json "
        "(env HEADRACE_LOG_FORMAT)",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important level that is logged (env HEADRACE_LOG_LEVEL)"
    )

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        read_address(url)
        return url

    def broker(self) -> Broker:
        """Returns a broker for these settings; nothing is connected yet."""
        return Broker(
            url=self.redis_url,
            namespace=self.namespace,
            shards=self.shards,
            lease_ms=int(self.lease * SECOND),
            confirmation=self.confirmation(),
        )

    def confirmation(self) -> Confirmation:
        """Returns how jobs are confirmed in this process; only the server stores any."""
        return Confirmation()
