"""address.py: what a URL says of the store, and what is said of a URL that says nothing."""

import re

import pytest

from headrace_broker.address import Kind, read_address, without_password


@pytest.mark.parametrize("url", ["redis://h:1/2", "rediss://:secret@h", "unix:///run/valkey.sock?db=1"])
def test_one_store_is_called_by_its_url(url: str) -> None:
    """A plain URL goes to redis-py as it is; its place shows no password."""
    address = read_address(url)

    assert address.kind is Kind.PLAIN
    assert [address.url_of(place) for place in address.places] == [url]
    assert "secret" not in address.places[0]


@pytest.mark.parametrize(
    ("url", "places", "service", "store", "sentinel"),
    [
        ("redis+sentinel://a/main", ["a:26379"], "main", "redis://s:1/0", "redis://s:1"),
        ("redis+sentinel://a:1,b:2,a:1/main/3", ["a:1", "b:2"], "main", "redis://s:1/3", "redis://s:1"),
        ("redis+sentinel://u:p%40x@a:1/my%20main/", ["a:1"], "my main", "redis://u:p%40x@s:1/0", "redis://s:1"),
        (
            "rediss+sentinel://:p@[::1]:1,b/main?sentinel_username=w&sentinel_password=q/r&ssl_ca_certs=/ca",
            ["[::1]:1", "b:26379"],
            "main",
            "rediss://:p@s:1/0?ssl_ca_certs=%2Fca",
            "rediss://w:q%2Fr@s:1?ssl_ca_certs=%2Fca",
        ),
    ],
)
def test_sentinels_are_read(url: str, places: list[str], service: str, store: str, sentinel: str) -> None:
    """The hosts are Sentinels, the path names service and database; user, password and parameters go to the store."""
    address = read_address(url)

    assert (address.kind, list(address.places), address.service) == (Kind.SENTINEL, places, service)
    assert (address.url_of("s:1"), address.sentinel_url_of("s:1")) == (store, sentinel)


@pytest.mark.parametrize(
    ("url", "places", "store"),
    [
        ("redis+cluster://a", ["a:6379"], "redis://s:1/0"),
        ("redis+cluster://u:p@a:1,b.example:2/0", ["a:1", "b.example:2"], "redis://u:p@s:1/0"),
        ("rediss+cluster://[fe80::1]:1?ssl_cert_reqs=none", ["[fe80::1]:1"], "rediss://s:1/0?ssl_cert_reqs=none"),
    ],
)  # fmt: skip
def test_a_cluster_is_read(url: str, places: list[str], store: str) -> None:
    """The hosts are nodes to ask first."""
    address = read_address(url)

    assert (address.kind, list(address.places), address.url_of("s:1")) == (Kind.CLUSTER, places, store)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "must begin with redis://"),
        ("", "must begin with redis://"),
        ("redis+cluster:h:1", "must begin with redis://"),
        ("redis+cluster://", "host number 1 is not host:port"),
        ("redis+cluster://a:1,,b", "host number 2 is not host:port"),
        ("redis+cluster://a:70000", "host number 1 is not host:port"),
        ("redis+cluster://a:0", "host number 1 is not host:port"),
        ("redis+cluster://u:secret/x@a:1", "host number 1 is not host:port"),
        ("redis+cluster://u:12secret/x@a:1", "host number 1 is not host:port"),
        ("redis+cluster://a b", "host number 1 is not host:port"),
        ("redis+cluster://a:1/1", "a cluster has database 0 alone"),
        ("redis+cluster://a:1/secret@b", "a cluster has database 0 alone"),
        ("redis+cluster://a:1?sentinel_password=secret", "belong to redis+sentinel:// alone"),
        ("redis+sentinel://a:1", "names the service"),
        ("redis+sentinel://a:1/", "names the service"),
        ("redis+sentinel://a:1/main/0/0", "names the service"),
        ("redis+sentinel://a:1/main/secret", "the database, a number"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url: str, says: str) -> None:
    """The refusal says what is wrong, and repeats no piece that may belong to a password."""
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        read_address(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:secret@h:1/2?x=secret", "redis://h:1/2"),
        (
            "redis+sentinel://u:secret@a:1,[::1]:2/main/0?sentinel_password=secret",
            "redis+sentinel://a:1,[::1]:2/main/0",
        ),
        ("redis+cluster://:secret@a,b", "redis+cluster://a,b"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """What logs and messages show."""
    assert without_password(url) == shown
