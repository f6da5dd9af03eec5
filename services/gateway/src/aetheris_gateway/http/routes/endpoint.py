"""How a method of a class becomes the handler of a route.

    class JobRoutes:
        @endpoint(routes.PAUSE_JOB, response_model=Job, summary="Keep a job from going on")
        async def pause(self, job_id: str, request: Request) -> JsonResponse: ...

    app.include_router(router(JobRoutes(services), tag="jobs"))

A handler names a `Route` of `aetheris_api`, which has its path and the permission that it needs, so a route without a
permission cannot be added here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aetheris_api.routes import Route
from aetheris_api.shape import Body
from fastapi import APIRouter

Handler = TypeVar("Handler", bound=Callable[..., Any])

_MARK = "_endpoint"


def endpoint(
    route: Route, *, body: type[Body] | None = None, body_required: bool = True, **options: Any
) -> Callable[[Handler], Handler]:
    """Mark a method as the handler of `route`. `body` is for OpenAPI; the handler reads it with `body.read`. The other
    options are FastAPI's."""
    if body is not None:
        options["openapi_extra"] = {
            "requestBody": {
                "required": body_required,
                "content": {"application/json": {"schema": body.model_json_schema()}},
            }
        }

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MARK, (route, options))
        return handler

    return mark


def router(handlers: object, *, tag: str) -> APIRouter:
    """All routes of one object, in the order in which its class defines them."""
    found = APIRouter(tags=[tag])
    for name, member in vars(type(handlers)).items():
        if hasattr(member, _MARK):
            route, options = getattr(member, _MARK)
            found.add_api_route(route.path, getattr(handlers, name), methods=[route.method], **options)
    return found
