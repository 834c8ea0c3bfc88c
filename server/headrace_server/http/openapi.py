"""The contract as an OpenAPI 3.1 document: every route that is served, with the comments of the contract."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headrace_server.http.answers import JSON
from headrace_server.http.comments import comments
from headrace_server.http.json_check import map_value
from headrace_server.http.openapi_fixed import FIXED_PATHS, FIXED_SCHEMAS
from headrace_server.http.schemas import PACKAGE, Schemas
from headrace_server.http.streams import Events, JsonLines, resumable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

    from headrace_server.http.routes import Route, Routes

_ABOUT = (
    "JSON is that of proto3: names in lowerCamelCase (snake_case is read as well), bytes as base64, durations as "
    'seconds such as "1.5s". Fields that are not set and have no presence are answered as their empty value.'
)

_ERROR = {
    "description": "What went wrong.",
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def document(routes: Routes) -> dict[str, Any]:
    """The document."""
    schemas = Schemas(comments())
    paths: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for route in routes.all:
        path = re.sub(r"\{([\w.]+)=[^}]+\}", r"{\1}", route.template)
        paths.setdefault(path, {})[route.verb.lower()] = _operation(route, schemas, taken)
    services = {route.method.containing_service.full_name for route in routes.all}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headrace",
            "version": version("headrace"),
            "description": f"A job queue on Valkey or Redis Streams. {_ABOUT}",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            *({"name": _short(name), "description": schemas.comment(name)} for name in sorted(services)),
            {"name": "probes", "description": "For load balancers and orchestrators."},
            {"name": "go-redis-job-queue", "description": "The routes of that REST queue, for those who come from it."},
        ],
        "paths": {**paths, **FIXED_PATHS},
        "components": {"schemas": dict(sorted({**schemas.all, **FIXED_SCHEMAS}.items()))},
    }


def _operation(route: Route, schemas: Schemas, taken: set[str]) -> dict[str, Any]:
    method = route.method
    comment = schemas.comment(method.full_name)
    operation: dict[str, Any] = {
        "operationId": _unique(method.name, taken),
        "tags": [_short(method.containing_service.full_name)],
        "summary": comment.partition(". ")[0].rstrip("."),
        "description": comment,
        "parameters": [*_path_parameters(route, schemas), *_query_parameters(route, schemas)],
        "responses": {"200": _answer(route, schemas), "default": _ERROR},
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _body(route, schemas)}}}
    return operation


def _answer(route: Route, schemas: Schemas) -> dict[str, Any]:
    kind = route.method.output_type
    comment = schemas.comment(kind.full_name) or "The answer."
    if route.streams:
        lines = {"schema": {"type": "string", "description": f"One {_short(kind.full_name)} on each line, as JSON."}}
        events = {"schema": {"type": "string", "description": f"Events whose data is one {_short(kind.full_name)}."}}
        schemas.message(kind)
        return {"description": comment, "content": {JsonLines.media_type: lines, Events.media_type: events}}
    whole = schemas.message(kind)
    schema = schemas.field(kind.fields_by_name[route.response_body]) if route.response_body else whole
    return {"description": comment, "content": {JSON: {"schema": schema}}}


def _body(route: Route, schemas: Schemas) -> dict[str, Any]:
    kind = route.method.input_type
    if route.body != "*":
        return schemas.field(kind.fields_by_name[route.body])
    return schemas.object(kind, without=route.fields) if route.fields else schemas.message(kind)


def _path_parameters(route: Route, schemas: Schemas) -> Iterator[dict[str, Any]]:
    for path in route.fields:
        kind: Descriptor | None = route.method.input_type
        for name in path.split("."):
            assert kind is not None  # a path leads through messages
            field = kind.fields_by_name[name]
            kind = field.message_type
        yield {"name": path, "in": "path", "required": True, **_described(schemas.field(field))}


def _query_parameters(route: Route, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if route.body == "*":
        return
    yield from _flat(route.method.input_type, schemas, {*route.fields, route.body}, "", ())
    if resumable(route):
        about = "Sent by browsers that open an event stream again; the same as afterVersion."
        yield {"name": "Last-Event-ID", "in": "header", "description": about, "schema": {"type": "integer"}}


def _flat(
    kind: Descriptor, schemas: Schemas, without: set[str], prefix: str, within: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """The fields as parameters, those of messages within messages with dots: `filter.queue`."""
    for field in kind.fields:
        if field.name in without or map_value(field) is not None:
            continue
        inner = field.message_type
        if inner is None or inner.full_name.startswith("google.protobuf."):
            yield {"name": f"{prefix}{field.json_name}", "in": "query", **_described(schemas.field(field))}
        elif not field.is_repeated and inner.full_name not in within:
            yield from _flat(inner, schemas, set(), f"{prefix}{field.json_name}.", (*within, inner.full_name))


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's part: its description apart from its schema."""
    comment = schema.pop("description", "")
    return {"description": comment, "schema": schema} if comment else {"schema": schema}


def _short(full_name: str) -> str:
    return full_name.removeprefix(PACKAGE)


def _unique(name: str, taken: set[str]) -> str:
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}{number}", number + 1
    taken.add(unique)
    return unique
