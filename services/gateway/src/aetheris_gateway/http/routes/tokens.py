"""The route of tokens: the owner of one sends its job the content that it waits for."""

from __future__ import annotations

from typing import Annotated

from aetheris_api import routes
from aetheris_api import tokens as shapes
from fastapi import Query, Request

from aetheris_gateway.core import requests
from aetheris_gateway.http import body
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.service import GatewayServices

_ANY = {"requestBody": {"required": False, "content": {"application/json": {"schema": {}}}}}


class TokenRoutes:
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    @endpoint(
        routes.COMPLETE_TOKEN,
        response_model=shapes.TokenAnswer,
        openapi_extra=_ANY,
        summary="Use a token: end the wait that it stands for",
    )
    async def complete(
        self,
        token: str,
        request: Request,
        failed: Annotated[bool, Query(description='The body is {"error": "…"}: the agent sees an error.')] = False,
    ) -> JsonResponse:
        """The body, any JSON of at most 256 KiB, is what the agent gets; an empty body is null. The token is the
        permission. Sending the same content again succeeds and changes nothing."""
        if failed:
            sent = await body.read(request, shapes.FailedBody, bytes_max=body.CONTENT_BODY_BYTES_MAX)
            content = requests.token_error(sent.error)
        else:
            content = requests.token_payload(await body.content(request))
        job_id, created = await self._services.tokens.complete(
            requests.NewTokenContent(token=_ascii(token), content=content)
        )
        return JsonResponse(shapes.TokenAnswer(job_id=str(job_id), created=created))


def _ascii(token: str) -> str:
    # A token is ASCII. Other text is refused as a forged token, and must not fail before that for its characters.
    return token if token.isascii() else "-"
