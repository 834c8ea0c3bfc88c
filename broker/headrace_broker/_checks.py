"""Whether the store may be trusted with jobs: version, role, eviction and persistence of every primary."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from redis import exceptions

from headrace_broker import store
from headrace_broker._primaries import Primaries, Primary
from headrace_broker.address import Kind
from headrace_broker.errors import StoreUnavailable, StoreUnfit

OLDEST_VERSION = (7, 0)
_COVERAGE = "cluster-require-full-coverage"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What the store is, and how much of its work would survive a crash of its machine."""

    server: str
    version: str
    persistence: str
    """'aof always', 'aof everysec', 'aof no', 'aof' (fsync policy not readable), 'rdb only' or 'none'."""
    warnings: tuple[str, ...] = ()


async def check_primaries(primaries: Primaries) -> StoreInfo:
    """Reads version, role, eviction policy and persistence of all primaries; the warnings are those of all of them.

    Of several primaries, one that cannot be reached is a warning: the shards of the others shall be served.

    Raises:
        StoreUnfit: one is older than 7.0, a read-only replica, set to evict keys, or no store of the kind that the URL
            says: jobs would be lost.
        StoreUnavailable: none can be reached.
    """
    shards = await primaries.look()
    replies = await asyncio.gather(*(_inspect(primary, primaries.kind) for primary in shards), return_exceptions=True)
    infos: dict[str, StoreInfo] = {}
    warnings: list[str] = []
    away: list[StoreUnavailable] = []
    for (primary, numbers), reply in zip(shards.items(), replies, strict=True):
        name = f"{primary.place}: " if len(shards) > 1 else ""
        if isinstance(reply, StoreUnavailable):
            away.append(reply)
            warnings.append(f"{name}cannot be reached; jobs of its shards {_numbers(numbers)} wait until it can")
        elif isinstance(reply, StoreUnfit):
            raise StoreUnfit(f"{name}{reply}") from reply
        elif isinstance(reply, BaseException):
            raise reply
        else:
            infos[primary.place] = reply
            warnings += [f"{name}{warning}" for warning in reply.warnings]
    if not infos:
        raise away[0]
    first = next(iter(infos.values()))
    return StoreInfo(
        server=first.server, version=first.version, persistence=first.persistence, warnings=tuple(warnings)
    )


async def _inspect(primary: Primary, kind: Kind) -> StoreInfo:
    client = primary.redis
    async with store.calling():
        info: dict[str, Any] = await client.info()
        if info.get("loading"):  # until it is done, it does not tell how its data is kept
            raise StoreUnavailable("the store is loading")
        if "sentinel" in {info.get("redis_mode"), info.get("server_mode")}:
            raise StoreUnfit("that is a Sentinel: the URL should be redis+sentinel://host:port,…/service")
        warnings = await _check_cluster(client, info, kind)
        persistence = await _persistence(client, info)
    server = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise StoreUnfit(f"{server} {version} is too old: headrace needs Redis 7.0, or any Valkey")
    if info.get("role") != "master":
        raise StoreUnfit("the store is a read-only replica: give the URL of its primary")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnfit(
            f"maxmemory-policy is {policy}: under memory pressure the store would evict jobs. "
            "Set it with: CONFIG SET maxmemory-policy noeviction (and in the store's configuration file)"
        )
    if not persistence.startswith("aof"):
        warnings.append(
            f"persistence is {persistence}: a crash of the store loses jobs. Set: CONFIG SET appendonly yes"
        )
    return StoreInfo(server=server, version=version, persistence=persistence, warnings=tuple(warnings))


async def _check_cluster(client: store.Client, info: dict[str, Any], kind: Kind) -> list[str]:
    """Returns the warnings about a cluster: of those of several primaries only."""
    if not info.get("cluster_enabled"):
        return []
    told: bytes = await client.execute_command("CLUSTER", "INFO")
    facts = dict(line.split(":", 1) for line in told.decode().splitlines() if ":" in line)
    if int(facts.get("cluster_size", 1)) <= 1:
        return []
    if kind is not Kind.CLUSTER:
        raise StoreUnfit("that is one node of a cluster: the URL should be redis+cluster://host:port,…")
    try:
        coverage = (await client.config_get(_COVERAGE)).get(_COVERAGE)
    except exceptions.ResponseError:  # CONFIG is forbidden to this user
        return []
    if coverage != "yes":
        return []
    return [f"{_COVERAGE} is yes: one lost primary stops all shards. Set: CONFIG SET {_COVERAGE} no"]


def _numbers(shards: list[int]) -> str:
    shown = ", ".join(map(str, shards[:10]))
    return shown if len(shards) <= 10 else f"{shown} and {len(shards) - 10} more"  # noqa: PLR2004  enough to know which


async def _persistence(client: store.Client, info: dict[str, Any]) -> str:
    if not info.get("aof_enabled"):
        try:
            save = (await client.config_get("save")).get("save", "")
        except exceptions.ResponseError:  # CONFIG may be forbidden to this user; then RDB is the likelier case
            return "rdb only"
        return "rdb only" if save else "none"
    try:
        return f"aof {(await client.config_get('appendfsync'))['appendfsync']}"
    except (exceptions.ResponseError, KeyError):  # CONFIG is forbidden: the policy stays unknown, which is no fault
        return "aof"
