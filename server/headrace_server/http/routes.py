"""Which method of the contract an HTTP request means: the google.api.http annotations, read from the descriptors.

Templates are those of google/api/http.proto: `/v1/jobs/{job_id}:watch`, `{name=queues/*}`, `*`, `**`. A segment never
holds a colon, so that a verb can never be taken for a part of an id (as %3A it may).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool

from headrace_server.http.refusals import NoSuchRoute, WrongMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.descriptor import MethodDescriptor

_PIECE = re.compile(r"\{(?P<field>[\w.]+)(?:=(?P<inner>[^}]+))?\}|(?P<many>\*\*)|(?P<one>\*)|(?P<text>[^{*]+)")
_ONE, _MANY = r"[^/:]+", r"[^:]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to call one method. `fields`: the request's fields that the path holds; `body`: where the JSON goes, `*`
    for the whole request, "" for none; `response_body`: the field of the response that is the answer, "" for all of it.
    """

    verb: str
    template: str
    fields: tuple[str, ...]
    body: str
    response_body: str
    method: MethodDescriptor
    pattern: re.Pattern[str]

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return bool(self.method.server_streaming)

    @property
    def verbs(self) -> tuple[str, ...]:
        """The HTTP methods it answers: HEAD comes with GET, but a stream has no end to come to."""
        return ("GET", "HEAD") if self.verb == "GET" and not self.streams else (self.verb,)


class Routes:
    """The routes of some services of the contract."""

    def __init__(self, services: Iterable[str]) -> None:
        self.all = tuple(route for service in services for route in _routes(service))

    def find(self, verb: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and the fields in the path (as it was sent, not yet unquoted). Raises NoSuchRoute, WrongMethod."""
        allowed: set[str] = set()
        for route in self.all:
            found = route.pattern.fullmatch(path)
            if found is None:
                continue
            if verb in route.verbs:
                return route, dict(zip(route.fields, map(unquote, found.groups()), strict=True))
            allowed.update(route.verbs)
        if allowed:
            raise WrongMethod(verb, path, allowed)
        raise NoSuchRoute(path)


def _routes(service: str) -> Iterator[Route]:
    pool = descriptor_pool.Default()
    for method in pool.FindServiceByName(service).methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        if method.client_streaming or rule.WhichOneof("pattern") is None:
            continue
        for one in (rule, *rule.additional_bindings):
            yield _route(method, one)


def _route(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Route:
    kind = rule.WhichOneof("pattern")
    verb, template = (rule.custom.kind, rule.custom.path) if kind == "custom" else (kind.upper(), getattr(rule, kind))
    fields, pattern = compiled(template)
    return Route(
        verb=verb,
        template=template,
        fields=fields,
        body=rule.body,
        response_body=rule.response_body,
        method=method,
        pattern=pattern,
    )


def compiled(template: str) -> tuple[tuple[str, ...], re.Pattern[str]]:
    """The names of the fields in a template, and the pattern of its paths, with one group for each."""
    fields = tuple(piece["field"] for piece in _PIECE.finditer(template) if piece["field"])
    return fields, re.compile("".join(map(_expression, _PIECE.finditer(template))))


def _expression(piece: re.Match[str]) -> str:
    if piece["field"]:
        return f"({''.join(map(_expression, _PIECE.finditer(piece['inner'] or '*')))})"
    return _MANY if piece["many"] else _ONE if piece["one"] else re.escape(piece["text"])
