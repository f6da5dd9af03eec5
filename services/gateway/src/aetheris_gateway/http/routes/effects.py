"""Routes of side effects: what there is, and what became of those in doubt."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from aetheris_kernel.errors import Invalid, Refusal
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from aetheris_gateway.core import intake
from aetheris_gateway.http import body, models, pages, views
from aetheris_gateway.http.render import JsonResponse, embed
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import GatewayServices
from aetheris_gateway.service.effects import RESOLUTIONS

PAGE_ROWS = 20
_LOOK_S = 2.0


class ResolveBody(body.Body):
    verdict: str = Field(
        max_length=32,
        description="committed: it ran, and `result` is what it returned. not_executed: it did not, and is made again. "
        "abandoned: nobody will ever know; the agent gets an error.",
    )
    result: Any = Field(None, description="What the tool returned, with committed; at most 256 KiB.")
    note: str = Field("", max_length=1024, description="How you know; it goes on record.")


def router(services: GatewayServices) -> APIRouter:
    routes = APIRouter(tags=["effects"])

    @routes.get("/api/effects", response_model=models.EffectPage, summary="Side effects, newest change first")
    async def effects(
        request: Request,
        state: Annotated[str, Query(max_length=32, description="e.g. in_doubt")] = "",
        job: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        wanted = pb.ListEffectsRequest(state=_state(state), job_id=job, page_size=limit, page_token=cursor)
        return JsonResponse(
            views.effect_page(await services.effects.list(services.identity.caller(request.headers), wanted))
        )

    @routes.get("/effects", summary="Effects in doubt, as a page")
    async def doubts(request: Request, cursor: Annotated[str, Query(max_length=1024)] = "") -> Response:
        caller = services.identity.caller(request.headers)
        wanted = pb.ListEffectsRequest(state="EFFECT_STATE_IN_DOUBT", page_size=PAGE_ROWS, page_token=cursor)
        page = await services.effects.list(caller, wanted)
        rows = await asyncio.gather(*(_doubtful(services, caller, effect) for effect in page.effects))
        return pages.effects(rows, page.next_page_token or None)

    # The key may hold any printable character, so it is percent-encoded in the address, slashes too.
    @routes.post(
        "/api/effects/{key:path}/resolve",
        response_model=models.Effect,
        openapi_extra=body.accepts(ResolveBody),
        summary="Say what became of an effect in doubt",
    )
    async def resolve(key: str, request: Request) -> JsonResponse:
        """The verdict is kept for the job, which goes on with it. Saying the same again changes nothing."""
        sent = await body.read(request, ResolveBody, bytes_max=body.NOTE_BYTES_MAX)
        wanted = pb.ResolveEffectRequest(
            key=intake.effect_key(key), verdict=_verdict(sent.verdict), note=intake.prose(sent.note, "note")
        )
        if "result" in sent.model_fields_set:
            wanted.result = intake.dump(sent.result)
        response = await services.effects.resolve(services.identity.caller(request.headers), wanted)
        return JsonResponse(views.effect(response.effect))

    return routes


async def _doubtful(services: GatewayServices, caller: Caller, effect: ledger_pb.Effect) -> pages.Doubtful:
    """With what the trace says, where it is to be had while somebody waits for the page."""
    address = f"/api/effects/{quote(effect.key, safe='')}/resolve"
    shown = views.effect(effect)
    try:
        async with asyncio.timeout(_LOOK_S):
            told = await services.record.trace(caller, effect.job_id)
    except (TimeoutError, Refusal):
        return pages.Doubtful(shown, address, "", "", None)
    for step in told.trace.steps:
        if step.key == effect.key:
            reason = step.doubts[-1].reason if step.doubts else ""
            return pages.Doubtful(shown, address, step.path, reason, embed(step.arguments))
    return pages.Doubtful(shown, address, "", "", None)


def _verdict(text: str) -> event_pb2.EffectResolved.Verdict:
    verdict = RESOLUTIONS.get(text)
    if verdict is None:
        raise Invalid(f"the verdict is one of {', '.join(RESOLUTIONS)}", field="verdict")
    return verdict


def _state(text: str) -> ledger_pb.EffectState:
    if not text:
        return ledger_pb.EFFECT_STATE_UNSPECIFIED
    for value, name in views.EFFECT_STATES.items():
        if name == text:
            return value
    raise Invalid(f"state is one of {', '.join(views.EFFECT_STATES.values())}", field="state")
