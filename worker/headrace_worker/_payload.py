"""Payloads to the values that handlers take, and what handlers return to results."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import from_json, to_jsonable_python

from headrace_broker import JSON

BYTES = "application/octet-stream"
MAX_COMPLAINTS = 10

Decode = Callable[[bytes, str], Any]
"""Takes the payload and its content type. Raises BadPayload."""


class BadPayload(Exception):
    """The payload is not what the handler takes; the message says where."""


class BadResult(Exception):
    """The handler returned something that cannot be kept; the message says what."""


class BadAnnotation(Exception):
    """No payload can be decoded to this annotation; the message says why."""


def decoder(annotation: Any) -> Decode:
    """Returns the function that decodes payloads for a parameter with this annotation.

    None, Any and object take what the content type says: JSON, text, or bytes. `bytes` takes the payload as it is,
    `str` takes text or a JSON string; everything else is JSON, checked by pydantic: dataclasses, models, lists, …

    Raises:
        BadAnnotation: pydantic cannot make anything of it.
    """
    if annotation in (inspect.Parameter.empty, None, Any, object):
        return decode_any
    if annotation is bytes:
        return _raw
    if annotation is str:
        return _text
    try:
        return _Typed(TypeAdapter(annotation))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeError) as error:
        raise BadAnnotation(str(error).partition("\n")[0]) from error


def decode_any(payload: bytes, content_type: str) -> Any:
    """Decodes by the content type alone. An empty JSON payload is None: it was left out."""
    if content_type == JSON or is_json(content_type):
        return _json(payload)
    return _utf8(payload) if content_type.startswith("text/") else payload


def is_json(content_type: str) -> bool:
    """True for application/json, with parameters or not, and for the likes of application/geo+json."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence == JSON or essence.endswith("+json")


def encode(value: object, *, limit: int) -> tuple[bytes | None, str]:
    """Returns a result and its content type. None is no result; bytes stay as they are; the rest becomes JSON.

    Raises:
        BadResult: it is no JSON value, or longer than `limit` bytes.
    """
    if value is None:
        return None, JSON
    if isinstance(value, bytes | bytearray | memoryview):
        result, content_type = bytes(value), BYTES
    else:
        result, content_type = _to_json(value), JSON
    if len(result) > limit:
        raise BadResult(f"the result has {len(result):,} bytes, more than the limit of {limit:,}")
    return result, content_type


def _jsonable(value: object) -> Any:
    """What the JSON encoder asks about anything that is no JSON value: dataclasses, models, datetimes, sets, …"""
    return to_jsonable_python(value)


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_jsonable)


def _to_json(value: object) -> bytes:
    try:
        return _encoder.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the result, of type {type(value).__name__}, is not JSON: {error}") from error


def _raw(payload: bytes, _content_type: str) -> bytes:
    return payload


def _text(payload: bytes, content_type: str) -> str:
    if not is_json(content_type):
        return _utf8(payload)
    value = _json(payload)
    if not isinstance(value, str):
        raise BadPayload(f"the handler takes a string, the payload is JSON of another kind: {type(value).__name__}")
    return value


def _utf8(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPayload(f"the payload is not UTF-8: {error.reason} at byte {error.start}") from error


def _json(payload: bytes) -> Any:
    if not payload:
        return None
    try:
        return from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise BadPayload(f"the payload is not JSON: {error}") from error


class _Typed:
    """Decodes JSON to the type of an annotation."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter

    def __call__(self, payload: bytes, content_type: str) -> Any:
        if not is_json(content_type):
            raise BadPayload(f"the handler takes JSON, the payload's content type is {content_type!r}")
        try:
            return self._adapter.validate_json(payload or b"null")
        except ValidationError as error:
            raise BadPayload(_complaints(error)) from error


def _complaints(error: ValidationError) -> str:
    """Names each bad field and its problem; the values stay out of it, for they may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in found[:MAX_COMPLAINTS]]
    if len(found) > MAX_COMPLAINTS:
        lines.append(f"and {len(found) - MAX_COMPLAINTS} more")
    return "the payload does not fit: " + "; ".join(lines)
