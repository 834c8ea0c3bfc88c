"""Page tokens: where a walk goes on, in a form that only we can make, bound to the query that it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from headrace_broker import keys
from headrace_broker._primaries import Primaries
from headrace_broker.errors import BadPageToken, StoreFull

_MAC_BYTES = 12


class PageTokens:
    """Makes and reads tokens, with a secret that all processes share through the store."""

    def __init__(self, *, primaries: Primaries, key: str) -> None:
        """`key` is where the secret is kept, in the first shard."""
        self._primaries = primaries
        self._key = key
        self._secret = b""

    async def make(self, place: Sequence[Any], *, query: str) -> str:
        """Returns the token for a place, a list of JSON values, in the walk that `query` names."""
        body = json.dumps(place, separators=(",", ":")).encode()
        return _encode(await self._mac(body, query) + body)

    async def read(self, token: str, *, query: str) -> list[Any]:
        """Returns the place that a token was made for.

        Raises:
            BadPageToken: it is not one of ours, or belongs to another query.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as error:
            raise BadPageToken("the page token is not one that this server gave") from error
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        spelled_otherwise = _encode(raw) != token  # the decoder passes over characters that are not in its alphabet
        if spelled_otherwise or not hmac.compare_digest(mac, await self._mac(body, query)):
            raise BadPageToken("the page token is not one that this server gave for this query")
        place: list[Any] = json.loads(body)
        return place

    async def _mac(self, body: bytes, query: str) -> bytes:
        secret = self._secret or await self._load()
        return hmac.new(secret, query.encode() + b"\0" + body, hashlib.sha256).digest()[:_MAC_BYTES]

    async def _load(self) -> bytes:
        async with self._primaries.calling(0) as redis:
            self._secret = await redis.get(self._key) or b""
        if not self._secret:
            mine = keys.new_token()
            try:
                async with self._primaries.calling(0) as redis:
                    await redis.set(self._key, mine, nx=True)
                    self._secret = await redis.get(self._key) or b""
            except StoreFull:  # lists must be readable now of all times: with tokens of this process alone
                self._secret = mine.encode()
        return self._secret


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
