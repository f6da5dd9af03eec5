"""grpc.health.v1 for the services of one server: SERVING until the drain begins, NOT_SERVING from then on.

The name `ready` answers a readiness probe: NOT_SERVING also while the process lives and can do no work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from aetheris_kernel.errors import NotFound
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

# The service that a readiness probe asks for.
READY = "ready"
SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
_STATUS = pb.HealthCheckResponse.ServingStatus


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    def __init__(
        self, service_names: Sequence[str], draining: asyncio.Event, ready: Callable[[], bool] = lambda: True
    ) -> None:
        # The empty name is the server as a whole.
        self._service_names = {"", READY, SERVICE_NAME, *service_names}
        self._draining, self._ready = draining, ready

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request.service not in self._service_names:
            raise NotFound("no such service here", service=request.service)
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """Ends when the drain begins; otherwise the drain would wait for the watching client."""
        if request.service not in self._service_names:
            yield pb.HealthCheckResponse(status=_STATUS.SERVICE_UNKNOWN)
        elif not self._draining.is_set():
            yield pb.HealthCheckResponse(status=self._status(request.service))
        await self._draining.wait()
        if request.service in self._service_names:
            yield pb.HealthCheckResponse(status=_STATUS.NOT_SERVING)

    def _status(self, service: str) -> Any:
        idle = service == READY and not self._ready()
        return _STATUS.NOT_SERVING if self._draining.is_set() or idle else _STATUS.SERVING
