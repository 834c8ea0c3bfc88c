"""Payloads: Python values to bytes and back."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headrace import ContentError, InvalidRequest, Priority
from headrace._content import decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@dataclass
class Address:
    city: str


@dataclass
class Person:
    name: str
    addresses: list[Address] = field(default_factory=list)


class Mail(BaseModel):
    to: str
    sent_at: Decimal


@given(JSON)
def test_json_comes_back_as_it_went(value: Any) -> None:
    """Any JSON value but null survives encode and decode, with its type; null is no payload at all."""
    data, content_type = encode(value, None)
    if value is None:
        assert data is None
    else:
        assert data is not None
        returned = decode(data, content_type or "application/json")
        assert (returned, type(returned)) == (value, type(value))


@pytest.mark.parametrize(
    ("payload", "content_type", "data", "sent_as"),
    [
        (2**64 + 1, None, b"18446744073709551617", ""),
        ({"a": [1, 2.5, "ü"]}, None, '{"a":[1,2.5,"ü"]}'.encode(), ""),
        ("text", None, b'"text"', ""),
        ("text", "text/plain", b"text", "text/plain"),
        ({"a": 1}, "application/vnd.api+json", b'{"a":1}', "application/vnd.api+json"),
        (b"\x00\xff", None, b"\x00\xff", "application/octet-stream"),
        (bytearray(b"ab"), None, b"ab", "application/octet-stream"),
        (memoryview(b"ab"), None, b"ab", "application/octet-stream"),
        (b'{"a":1}', "application/json", b'{"a":1}', "application/json"),
        (Person("Ada", [Address("London")]), None, b'{"name":"Ada","addresses":[{"city":"London"}]}', ""),
        (Mail(to="a@b", sent_at=Decimal("1.5")), None, b'{"to":"a@b","sent_at":"1.5"}', ""),
        (Priority.HIGH, None, b'"high"', ""),
        (None, None, None, ""),
        (None, "text/plain", None, "text/plain"),
    ],
)
def test_payload_is_encoded_by_its_kind(
    payload: Any, content_type: str | None, data: bytes | None, sent_as: str
) -> None:
    """Bytes go as they are, text under a content type of its own as UTF-8, everything else as compact JSON."""
    assert encode(payload, content_type) == (data, sent_as)


@pytest.mark.parametrize(
    ("payload", "content_type", "problem"),
    [
        (float("nan"), None, "Out of range float"),
        ({"a": float("inf")}, None, "Out of range float"),
        (object(), None, "a object is not JSON, a dataclass or a pydantic model"),
        (Person, None, "a type is not JSON"),
        ("\ud800", None, "surrogates not allowed"),
        ({(1, 2): 3}, None, "keys must be str"),
        ([1], "text/plain", "a list cannot be sent as text/plain: give bytes or str"),
    ],
)
def test_payload_that_cannot_be_sent_is_refused_here(payload: Any, content_type: str | None, problem: str) -> None:
    """A value that is no content of its type is an InvalidRequest that names the payload, before anything is sent."""
    with pytest.raises(InvalidRequest, match=problem) as caught:
        encode(payload, content_type)
    assert [violation.field for violation in caught.value.violations] == ["payload"]


def test_circular_payload_is_refused_here() -> None:
    """A structure that contains itself is an InvalidRequest, not a crash."""
    payload: list[Any] = []
    payload.append(payload)
    with pytest.raises(InvalidRequest, match="Circular"):
        encode(payload, None)


@pytest.mark.parametrize(
    ("data", "content_type", "value"),
    [
        (b'{"n":18446744073709551617}', "application/json", {"n": 2**64 + 1}),
        (b"[1]", "application/vnd.api+json; charset=utf-8", [1]),
        (b"", "application/json", None),
        ("grün".encode(), "text/plain; charset=utf-8", "grün"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (b"{}", "", b"{}"),
    ],
)
def test_content_is_decoded_by_its_type(data: bytes, content_type: str, value: Any) -> None:
    """JSON becomes values with every integer exact, text becomes str, anything else stays bytes."""
    assert decode(data, content_type) == value


@pytest.mark.parametrize(
    ("data", "content_type"),
    [(b"{", "application/json"), (b"\xff", "text/plain"), (b"[" * 100_000, "application/json")],
)
def test_content_that_is_not_what_it_says_is_a_content_error(data: bytes, content_type: str) -> None:
    """Content that contradicts its type raises the client's own error, which is a ValueError too."""
    with pytest.raises(ContentError, match=f"the content is not {content_type}"):
        decode(data, content_type)
