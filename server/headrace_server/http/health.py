"""Whether the process lives, and whether it serves: for probes that speak HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from starlette.responses import Response

from headrace_server.http.answers import JSON, dumps
from headrace_server.http.loopback import CallFailed

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace_server.http.loopback import Loopback

_CHECK = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]


class Health:
    """`service`: the one whose health counts."""

    def __init__(self, *, loopback: Loopback, service: str) -> None:
        self._loopback = loopback
        self._service = service

    async def live(self, _request: Request) -> Response:
        """200: the process answers."""
        return Response(dumps({"status": "ok"}), media_type=JSON)

    async def ready(self, _request: Request) -> Response:
        """200 while the store answers and the server does not drain, else 503."""
        try:
            request = health_pb2.HealthCheckRequest(service=self._service)
            answer = await self._loopback.unary(_CHECK, request)
        except CallFailed:
            serving = False
        else:
            serving = answer.status == health_pb2.HealthCheckResponse.SERVING  # type: ignore[attr-defined]
        body = {"status": "ok" if serving else "unavailable"}
        return Response(dumps(body), 200 if serving else 503, media_type=JSON)
