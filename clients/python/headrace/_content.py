"""Payloads and results: Python values to bytes and a content type, and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from headrace.errors import ContentError, InvalidRequest

JSON = "application/json"
BYTES = "application/octet-stream"


def encode(payload: object, content_type: str | None) -> tuple[bytes | None, str]:
    """The payload as bytes (None: there is none), and its content type (empty: the server's default, JSON).

    Raises:
        InvalidRequest: The payload cannot be written in this content type.
    """
    if payload is None:
        return None, content_type or ""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), content_type or BYTES
    if content_type is None or _is_json(content_type):
        return _to_json(payload), content_type or ""
    if isinstance(payload, str):
        return payload.encode(), content_type
    raise InvalidRequest.of(
        "payload", f"a {type(payload).__name__} cannot be sent as {content_type}: give bytes or str"
    )


def decode(data: bytes, content_type: str) -> Any:
    """The value that `data` stands for: JSON to Python values, text to str, anything else stays bytes.

    Raises:
        ContentError: The bytes are not what the content type says.
    """
    try:
        if _is_json(content_type):
            return json.loads(data) if data else None
        return data.decode() if content_type.startswith("text/") else data
    except (ValueError, RecursionError) as error:
        raise ContentError(f"the content is not {content_type}: {error}") from error


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or media_type.endswith("+json")


def _to_json(value: object) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest.of("payload", f"cannot be written as JSON: {error}") from error


def _to_plain(value: object) -> object:
    """What json asks for a value that it does not know: dataclasses and pydantic models become objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"a {type(value).__name__} is not JSON, a dataclass or a pydantic model")


# NaN and Infinity are not JSON: other languages could not read them.
# Built once: json.dumps would build one for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_plain)
