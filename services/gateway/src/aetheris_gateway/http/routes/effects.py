"""Routes of side effects: the list, the page of those in doubt, and their resolution."""

from __future__ import annotations

import asyncio
from typing import Annotated

from aetheris_api import effects as shapes
from aetheris_api import routes
from aetheris_api.statuses import EffectStatus, ResolutionChoice
from aetheris_kernel.errors import Invalid, Refusal
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from fastapi import Query, Request
from starlette.responses import Response

from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewResolution
from aetheris_gateway.http import body
from aetheris_gateway.http.pages import effects as pages
from aetheris_gateway.http.render import JsonResponse, embed
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.http.views import effects as views
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import GatewayServices

PAGE_ROWS = 20
_RECORD_S = 2.0
# How many commits the pages of all readers hold at once.
_COMMITS_AT_ONCE = 4


class EffectRoutes:
    def __init__(self, services: GatewayServices) -> None:
        self._services = services
        self._reading = asyncio.Semaphore(_COMMITS_AT_ONCE)

    def _caller(self, request: Request) -> Caller:
        return self._services.identity.caller(request.headers)

    @endpoint(routes.LIST_EFFECTS, response_model=shapes.EffectPage, summary="Side effects, newest change first")
    async def effects(
        self,
        request: Request,
        state: Annotated[str, Query(max_length=32, description="e.g. in_doubt")] = "",
        job: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        wanted = pb.ListEffectsRequest(state=_state(state), job_id=job, page_size=limit, page_token=cursor)
        return JsonResponse(views.effect_page(await self._services.effects.list(self._caller(request), wanted)))

    @endpoint(routes.EFFECTS_PAGE, summary="Effects in doubt, as a page")
    async def doubts(self, request: Request, cursor: Annotated[str, Query(max_length=1024)] = "") -> Response:
        caller = self._caller(request)
        wanted = pb.ListEffectsRequest(state="EFFECT_STATE_IN_DOUBT", page_size=PAGE_ROWS, page_token=cursor)
        page = await self._services.effects.list(caller, wanted)
        rows = await asyncio.gather(*(self._row(effect) for effect in page.effects))
        return pages.effects(rows, page.next_page_token or None)

    async def _row(self, effect: ledger_pb.Effect) -> pages.DoubtRow:
        """The effect with its path, reason and arguments, if the record gives them within two seconds. The page does
        not wait longer for them."""
        shown, address = views.effect(effect), routes.RESOLVE_EFFECT.at(key=effect.key)
        try:
            async with asyncio.timeout(_RECORD_S), self._reading:
                doubt = await self._services.record.doubt(effect)
        except (TimeoutError, Refusal):
            return pages.DoubtRow(shown, address, "", "", None)
        return pages.DoubtRow(shown, address, doubt.path, doubt.reason, embed(doubt.arguments))

    @endpoint(
        routes.RESOLVE_EFFECT,
        response_model=shapes.Effect,
        body=shapes.ResolveBody,
        summary="Resolve an effect in doubt",
    )
    async def resolve(self, key: str, request: Request) -> JsonResponse:
        """The resolution is stored for the job, which then goes on with it. Repeating it changes nothing."""
        sent = await body.read(request, shapes.ResolveBody, bytes_max=body.CONTENT_BODY_BYTES_MAX)
        new = NewResolution(
            key=key,
            resolution=_resolution(sent.verdict),
            result=intake.content(sent.result, "result") if "result" in sent.model_fields_set else None,
            note=sent.note,
        )
        response = await self._services.effects.resolve(self._caller(request), new)
        return JsonResponse(views.effect(response.effect))


def _resolution(text: str) -> ResolutionChoice:
    try:
        return ResolutionChoice(text)
    except ValueError:
        raise Invalid(f"the verdict is one of {', '.join(ResolutionChoice)}", field="verdict") from None


def _state(text: str) -> ledger_pb.EffectState:
    if not text:
        return ledger_pb.EFFECT_STATE_UNSPECIFIED
    for wire, state in views.STATES.items():
        if state == text:
            return wire
    raise Invalid(f"state is one of {', '.join(EffectStatus)}", field="state")
