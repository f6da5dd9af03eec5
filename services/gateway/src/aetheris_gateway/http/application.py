"""The REST API and the pages as one ASGI application."""

from __future__ import annotations

import asyncio
from typing import Any

from aetheris_api.errors import Error
from aetheris_api.routes import OPENAPI
from aetheris_kernel.clock import Clock
from fastapi import FastAPI
from starlette.types import ASGIApp

from aetheris_gateway.http import errors
from aetheris_gateway.http.middleware import HttpMiddleware
from aetheris_gateway.http.origin import AllowedHosts
from aetheris_gateway.http.routes.approvals import ApprovalRoutes
from aetheris_gateway.http.routes.effects import EffectRoutes
from aetheris_gateway.http.routes.endpoint import router
from aetheris_gateway.http.routes.inbox import InboxRoutes
from aetheris_gateway.http.routes.jobs import JobRoutes
from aetheris_gateway.http.routes.operations import Checks, OperationRoutes, ReferenceRoutes
from aetheris_gateway.http.routes.record import RecordRoutes
from aetheris_gateway.http.routes.tokens import TokenRoutes
from aetheris_gateway.service import GatewayServices

_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error, "description": "Refused; the code says by which rule."},
    "5XX": {"model": Error, "description": "Something is away or broken; 503 may be tried again."},
}


def build(
    services: GatewayServices,
    clock: Clock,
    *,
    checks: Checks,
    draining: asyncio.Event,
    hosts: AllowedHosts,
) -> ASGIApp:
    app = FastAPI(
        title="Aetheris",
        version="1",
        description="Durable agents: submit jobs, talk to them, see what they did.",
        docs_url=None,
        redoc_url=None,
        openapi_url=OPENAPI.path,
        redirect_slashes=False,
        responses=_REFUSALS,
    )
    errors.add_to(app)
    app.include_router(router(JobRoutes(services), tag="jobs"))
    app.include_router(router(InboxRoutes(services), tag="inbox"))
    app.include_router(router(ApprovalRoutes(services), tag="people"))
    app.include_router(router(TokenRoutes(services), tag="people"))
    app.include_router(router(EffectRoutes(services), tag="effects"))
    app.include_router(router(RecordRoutes(services, clock), tag="record"))
    app.include_router(router(OperationRoutes(services, checks=checks, draining=draining), tag="operations"))
    app.include_router(router(ReferenceRoutes(app.openapi), tag="operations"))
    return HttpMiddleware(app, hosts=hosts)
