"""Routes of side effects: what there is, and what became of those in doubt."""

from __future__ import annotations

from typing import Annotated, Any

from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from fastapi import APIRouter, Query, Request
from pydantic import Field

from aetheris_gateway.core import intake
from aetheris_gateway.desk import Desk
from aetheris_gateway.desk.effects import VERDICTS_OF_PEOPLE
from aetheris_gateway.http import body, models, views
from aetheris_gateway.http.render import JsonResponse


class ResolveBody(body.Body):
    verdict: str = Field(
        max_length=32,
        description="committed: it ran, and `result` is what it returned. not_executed: it did not, and is made again. "
        "abandoned: nobody will ever know; the agent gets an error.",
    )
    result: Any = Field(None, description="What the tool returned, with committed; at most 256 KiB.")
    note: str = Field("", max_length=1024, description="How you know; it goes on record.")


def router(desk: Desk) -> APIRouter:
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
        return JsonResponse(views.effect_page(await desk.effects.list(desk.identity.caller(request.headers), wanted)))

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
        response = await desk.effects.resolve(desk.identity.caller(request.headers), wanted)
        return JsonResponse(views.effect(response.effect))

    return routes


def _verdict(text: str) -> event_pb2.EffectResolved.Verdict:
    verdict = VERDICTS_OF_PEOPLE.get(text)
    if verdict is None:
        raise Invalid(f"the verdict is one of {', '.join(VERDICTS_OF_PEOPLE)}", field="verdict")
    return verdict


def _state(text: str) -> ledger_pb.EffectState:
    if not text:
        return ledger_pb.EFFECT_STATE_UNSPECIFIED
    for value, name in views.EFFECT_STATES.items():
        if name == text:
            return value
    raise Invalid(f"state is one of {', '.join(views.EFFECT_STATES.values())}", field="state")
