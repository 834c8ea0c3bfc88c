"""Page tokens: where a list goes on. Opaque to clients, signed, and bound to the query that they were made for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from headrace_broker.errors import BadPageToken

_MAC_BYTES = 12


def make(place: Any, *, secret: bytes, query: str) -> str:
    """Returns the token for a place in the answer to a query; `place` is what JSON can hold."""
    body = json.dumps(place).encode()
    return _encode(_mac(body, secret=secret, query=query) + body)


def read(token: str, *, secret: bytes, query: str) -> Any:
    """Returns the place that the token was made for.

    Raises:
        BadPageToken: it was not made with this secret, or for another query.
    """
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise BadPageToken("the page token is not one that this server gave") from error
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    spelled_otherwise = _encode(raw) != token  # the decoder passes over characters that are not in its alphabet
    if spelled_otherwise or not hmac.compare_digest(mac, _mac(body, secret=secret, query=query)):
        raise BadPageToken("the page token is not one that this server gave for this query")
    return json.loads(body)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _mac(body: bytes, *, secret: bytes, query: str) -> bytes:
    return hmac.new(secret, query.encode() + b"\0" + body, hashlib.sha256).digest()[:_MAC_BYTES]
