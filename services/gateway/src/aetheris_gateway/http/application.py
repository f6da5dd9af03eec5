"""The REST API and the pages as one ASGI application."""

from __future__ import annotations

import asyncio
from typing import Any

from aetheris_kernel.clock import Clock
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp

from aetheris_gateway.http import errors, models, pages
from aetheris_gateway.http.middleware import HttpMiddleware
from aetheris_gateway.http.routes import approvals, effects, inbox, jobs, operations, record
from aetheris_gateway.service import GatewayServices

_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": models.Error, "description": "Refused; the code says by which rule."},
    "5XX": {"model": models.Error, "description": "Something is away or broken; 503 may be tried again."},
}


def build(
    services: GatewayServices,
    clock: Clock,
    *,
    checks: operations.Checks,
    draining: asyncio.Event,
    streams_max: int,
    local: bool,
) -> ASGIApp:
    app = FastAPI(
        title="Aetheris",
        version="1",
        description="Durable agents: submit jobs, talk to them, see what they did.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        responses=_REFUSALS,
    )
    errors.add_to(app)
    app.include_router(jobs.router(services))
    app.include_router(inbox.router(services))
    app.include_router(approvals.router(services))
    app.include_router(effects.router(services))
    app.include_router(record.router(services, clock, streams_max=streams_max))
    app.include_router(operations.router(services, checks=checks, draining=draining))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.document(app.openapi())

    return HttpMiddleware(app, local=local)
