"""Who is the primary of each shard? The URL itself says so, the Sentinels do, or the nodes of the cluster.

Sentinels and nodes may disagree for a while, and one that was cut off from the others may be wrong for long. So all are
asked at once, and the answer with the highest configuration epoch counts: every failover and every migration of a slot
raises it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.crc import key_slot
from redis.exceptions import ResponseError

from headrace_broker import store
from headrace_broker.address import Address, Kind
from headrace_broker.errors import StoreUnavailable, StoreUnfit
from headrace_broker.keys import Shard

ASK_TIMEOUT = 1.0
"""Seconds that a Sentinel or a node gets for its answer: one that is cut off must not hold up the others' news."""

Places = Mapping[int, str]
"""Where the primary of each shard is, as host:port. Shards that nobody serves are left out."""


class Discovery(Protocol):
    """Finds the primaries. `every`: seconds after which what it has found is worth asking for again; 0: never."""

    every: float

    async def find(self, known: Iterable[str]) -> Places:
        """Returns the primaries; `known` are those that it returned last.

        Raises:
            StoreUnavailable: nobody answers.
            StoreUnfit: those that answer are not what the URL says.
        """

    async def aclose(self) -> None:
        """Closes its connections. May be called twice."""


def discovery(address: Address, shards: Sequence[Shard]) -> Discovery:
    """Returns the way to the primaries of an address."""
    match address.kind:
        case Kind.PLAIN:
            return _Fixed(address, shards)
        case Kind.SENTINEL:
            return _Sentinels(address, shards)
        case Kind.CLUSTER:
            return _Cluster(address, shards)


class _Fixed:
    """One store, for all shards and for ever."""

    every = 0.0

    def __init__(self, address: Address, shards: Sequence[Shard]) -> None:
        self._found = {shard.number: address.places[0] for shard in shards}

    async def find(self, known: Iterable[str]) -> Places:  # noqa: ARG002  nothing can be newer
        return self._found

    async def aclose(self) -> None:
        return


class _Asker:
    """Asks several stores or Sentinels the same, at once, each on a connection that is kept for the next time."""

    def __init__(self, url_of: Callable[[str], str]) -> None:
        self._url_of = url_of
        self._clients: dict[str, store.Client] = {}

    async def ask(
        self, places: Iterable[str], question: Callable[[store.Client], Awaitable[Any]]
    ) -> tuple[dict[str, Any], list[Exception]]:
        """Returns the answers by place, and the errors of those that gave none. Others than `places` are forgotten."""
        wanted = dict.fromkeys(places)
        for place in set(self._clients) - set(wanted):
            await store.close(self._clients.pop(place))
        replies = await asyncio.gather(*(self._answer(place, question) for place in wanted), return_exceptions=True)
        answers: dict[str, Any] = {}
        errors: list[Exception] = []
        for place, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, Exception):
                errors.append(reply)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                answers[place] = reply
        return answers, errors

    async def _answer(self, place: str, question: Callable[[store.Client], Awaitable[Any]]) -> Any:
        client = self._clients.get(place)
        if client is None:
            client = self._clients[place] = store.command_client(self._url_of(place), connections=1)
        async with store.calling(ASK_TIMEOUT):
            return await question(client)

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await store.close(client)


class _Sentinels:
    """One primary for all shards; which one, the Sentinels say."""

    every = 1.0  # a primary that is cut off from the others goes on taking jobs, which the next one will never have

    def __init__(self, address: Address, shards: Sequence[Shard]) -> None:
        self._address = address
        self._shards = shards
        self._asker = _Asker(address.sentinel_url_of)
        self._stores = _Asker(address.url_of)

    async def find(self, known: Iterable[str]) -> Places:
        service = self._address.service
        answers, errors = await self._asker.ask(
            self._address.places, lambda client: client.execute_command("SENTINEL", "MASTER", service)
        )
        if not answers:
            raise _nobody(f"no Sentinel knows a primary of {service!r}", errors)
        newest = max((_pairs(answer) for answer in answers.values()), key=lambda facts: int(facts["config-epoch"]))
        place = _place(newest["ip"], newest["port"])
        if place not in known:
            await self._check_role(place)
        return {shard.number: place for shard in self._shards}

    async def _check_role(self, place: str) -> None:
        """Sentinels may name a store that is not promoted yet, or not any more: it would answer reads with old news."""
        roles, errors = await self._stores.ask([place], lambda client: client.execute_command("ROLE"))
        if not roles:
            raise _nobody(f"the primary at {place}, as the Sentinels say, does not answer", errors)
        if roles[place][0] != b"master":
            raise StoreUnavailable(f"the primary at {place}, as the Sentinels say, is a replica")

    async def aclose(self) -> None:
        await self._asker.aclose()
        await self._stores.aclose()


@dataclass(frozen=True, slots=True, order=True)
class _Owner:
    """Who serves a slot; the greater of two is the newer."""

    epoch: int
    node: bytes
    place: str


class _Cluster:
    """Each shard has the primary that serves its slot; which one, the nodes say."""

    every = 15.0  # nodes say MOVED, and stop when they are cut off: this is for what nobody says

    def __init__(self, address: Address, shards: Sequence[Shard]) -> None:
        self._seeds = address.places
        self._slots = {shard.number: key_slot(shard.queues().encode()) for shard in shards}
        self._asker = _Asker(address.url_of)

    async def find(self, known: Iterable[str]) -> Places:
        answers, errors = await self._asker.ask([*self._seeds, *known], _slots_and_nodes)
        if not answers:
            raise _nobody("no node of the cluster answers", errors)
        views = [self._view(asked, *answer) for asked, answer in answers.items()]
        denied = {(shard, me) for me, owners in views for shard, owner in owners.items() if owner.node != me}
        best: dict[int, _Owner] = {}
        for _, owners in views:
            for shard, owner in owners.items():
                if (shard, owner.node) not in denied:  # it knows best what it has given away
                    best[shard] = max(owner, best.get(shard, owner))
        return {shard: owner.place for shard, owner in best.items()}

    def _view(self, asked: str, slots: list[Any], nodes: list[list[bytes]]) -> tuple[bytes, dict[int, _Owner]]:
        """Returns the id of the node that was asked, and who owns which shard, as it sees it."""
        epochs = {words[0]: int(words[6]) for words in nodes}
        me = next(words[0] for words in nodes if b"myself" in words[2])
        owners: dict[int, _Owner] = {}
        for start, end, (host, port, node, *_), *_ in slots:
            place = _place(host.decode() if host not in {None, b"", b"?"} else _host(asked), str(port))
            owner = _Owner(epochs.get(node, 0), node, place)
            owners |= {shard: owner for shard, slot in self._slots.items() if start <= slot <= end}
        return me, owners

    async def aclose(self) -> None:
        await self._asker.aclose()


async def _slots_and_nodes(client: store.Client) -> tuple[list[Any], list[list[bytes]]]:
    slots = await client.execute_command("CLUSTER", "SLOTS")
    nodes = await client.execute_command("CLUSTER", "NODES")
    return slots, [line.split() for line in nodes.splitlines()]


def _nobody(what: str, errors: Sequence[Exception]) -> StoreUnavailable | StoreUnfit:
    """Returns the error to raise. What was refused outright, a wrong name for one, no waiting makes right."""
    refusals = [error for error in errors if isinstance(error, ResponseError)]
    if refusals and len(refusals) == len(errors):
        return StoreUnfit(f"{what}: {refusals[0]}")
    cause = next((error.__cause__ or error for error in errors if not isinstance(error, ResponseError)), None)
    unavailable = StoreUnavailable(f"{what}: {str(cause or 'none is named').rstrip('.')}")
    unavailable.__cause__ = cause
    return unavailable


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _place(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(place: str) -> str:
    return place.rpartition(":")[0].strip("[]")
