"""Where the store is: one Valkey or Redis, a primary that Sentinels watch over, or a cluster. Read from a URL.

    redis://[[user]:password@]host:port[/db]                           one store; unix:///path/to.sock too
    redis+sentinel://[[user]:password@]host[:port][,…]/service[/db]    the hosts are Sentinels
    redis+cluster://[[user]:password@]host[:port][,…]                  the hosts are any nodes of the cluster

`rediss`, `rediss+sentinel` and `rediss+cluster` are the same with TLS. User and password are those of the stores; those
of the Sentinels are the parameters `sentinel_username` and `sentinel_password`. All other parameters go to redis-py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_URL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?P<host>[^\[\]:,\s]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>\d{1,5}))?")
_PLAIN = ("redis://", "rediss://", "unix://")
_SCHEMES = "redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster:// (TLS: rediss+…)"
_LARGEST_PORT = 65_535


class Kind(StrEnum):
    """How the primary of a shard is found."""

    PLAIN = "plain"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_DEFAULT_PORT = {Kind.SENTINEL: 26_379, Kind.CLUSTER: 6_379}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL says. A place is `host:port` as it stands in URLs, IPv6 in brackets."""

    kind: Kind
    places: tuple[str, ...]
    """The one store, the Sentinels, or the nodes of the cluster to ask first."""
    service: str = ""
    """The name under which the Sentinels know the primary."""
    _scheme: str = ""
    _login: str = ""
    _sentinel_login: str = ""
    _rest: str = ""
    """What follows the place in the URL of a store: database and parameters."""
    _plain: str = ""

    def url_of(self, place: str) -> str:
        """Returns the URL of the store at this place, for redis-py."""
        return self._plain or f"{self._scheme}://{self._login}{place}{self._rest}"

    def sentinel_url_of(self, place: str) -> str:
        """Returns the URL of the Sentinel at this place, for redis-py."""
        query = self._rest.partition("?")[2]
        return f"{self._scheme}://{self._sentinel_login}{place}{'?' * bool(query)}{query}"


def read_address(url: str) -> Address:
    """Returns what a URL says. Raises ValueError that says what is wrong with it, and holds no password."""
    if url.startswith(_PLAIN):
        return Address(kind=Kind.PLAIN, places=(without_password(url),), _plain=url)
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"must begin with {_SCHEMES}, followed by hosts")
    kind = Kind(found["kind"])
    places = _places(found["hosts"], kind)
    words = [unquote(word) for word in (found["path"] or "").strip("/").split("/") if word]
    service, database = _sentinel_path(words) if kind is Kind.SENTINEL else _cluster_path(words)
    query = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    user, password = query.pop("sentinel_username", ""), query.pop("sentinel_password", "")
    if kind is Kind.CLUSTER and (user or password):
        raise ValueError("sentinel_username and sentinel_password belong to redis+sentinel:// alone")
    return Address(
        kind=kind,
        places=places,
        service=service,
        _scheme=found["scheme"],
        _login=f"{found['login']}@" if found["login"] else "",
        _sentinel_login=f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else "",
        _rest=f"/{database}" + (f"?{urlencode(query)}" if query else ""),
    )


def _places(hosts: str, kind: Kind) -> tuple[str, ...]:
    places = []
    for number, text in enumerate(hosts.split(","), 1):
        found = _HOST.fullmatch(text)
        port = int(found["port"] or _DEFAULT_PORT[kind]) if found else 0
        if found is None or not 1 <= port <= _LARGEST_PORT:  # not shown: it may be a piece of an unquoted password
            raise ValueError(
                f"host number {number} is not host:port; expected redis+{kind}://[[user]:password@]host:port[,host:port…]"
                ", with :/?#@% in user and password written as %3A and so on"
            )
        places.append(f"{found['host']}:{port}")
    return tuple(dict.fromkeys(places))


def _sentinel_path(words: list[str]) -> tuple[str, int]:
    if not 1 <= len(words) <= 2:  # noqa: PLR2004  the service, and a database
        raise ValueError(
            "a Sentinel URL names the service that the Sentinels watch: redis+sentinel://host:port/service[/db]"
        )
    database = words[1] if len(words) > 1 else "0"
    if not database.isdecimal():
        raise ValueError("what follows the service is the database, a number: redis+sentinel://host:port/service/0")
    return words[0], int(database)


def _cluster_path(words: list[str]) -> tuple[str, int]:
    if words not in ([], ["0"]):
        raise ValueError("a cluster has database 0 alone: nothing may follow the hosts of redis+cluster://")
    return "", 0


def without_password(url: str) -> str:
    """Returns the URL as it may be shown: no user, no password, no query."""
    if "+" in url.partition(":")[0]:  # several hosts: urlsplit would refuse some
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
