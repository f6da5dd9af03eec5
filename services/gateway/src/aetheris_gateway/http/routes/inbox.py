"""Routes of the inbox: signals and messages to a running job."""

from __future__ import annotations

from typing import Any

from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import APIRouter, Request
from pydantic import Field

from aetheris_gateway.core import intake
from aetheris_gateway.http import body, models
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.service import GatewayServices


class SignalBody(body.Body):
    correlation_key: str = Field(max_length=256, description="Which wait it ends.")
    payload: Any = Field(None, description="What the wait returns; at most 256 KiB.")


class MessageBody(body.Body):
    channel: str = Field(max_length=256)
    message_id: str = Field(max_length=256, description="Yours, unique in the job: it makes a repetition safe.")
    payload: Any = Field(None, description="At most 256 KiB.")


def router(services: GatewayServices) -> APIRouter:
    routes = APIRouter(tags=["inbox"])

    @routes.post(
        "/api/jobs/{job_id}/signal",
        response_model=models.SignalAnswer,
        openapi_extra=body.accepts(SignalBody),
        summary="Say something to a job, once per correlation key",
    )
    async def signal(job_id: str, request: Request) -> JsonResponse:
        """Durable when this answers; saying it again is a success that changes nothing. It may come before the
        job waits for it, and is accepted while the scheduler and the ledger are away."""
        sent = await body.read(request, SignalBody, bytes_max=body.NOTE_BYTES_MAX)
        said = pb.SignalRequest(
            job_id=job_id,
            correlation_key=intake.key(sent.correlation_key, "correlation_key"),
            payload=intake.dump(sent.payload),
        )
        answer = await services.inbox.signal(services.identity.caller(request.headers), said)
        return JsonResponse(models.SignalAnswer(signal_id=answer.signal_id, created=answer.created))

    @routes.post(
        "/api/jobs/{job_id}/message",
        response_model=models.MessageAnswer,
        openapi_extra=body.accepts(MessageBody),
        summary="Queue a message in a channel of a job, once per message id",
    )
    async def message(job_id: str, request: Request) -> JsonResponse:
        """Durable when this answers. Messages reach the job in the order in which they were accepted."""
        sent = await body.read(request, MessageBody, bytes_max=body.NOTE_BYTES_MAX)
        said = pb.SendMessageRequest(
            job_id=job_id,
            channel=intake.key(sent.channel, "channel"),
            message_id=intake.key(sent.message_id, "message_id"),
            payload=intake.dump(sent.payload),
        )
        answer = await services.inbox.send_message(services.identity.caller(request.headers), said)
        return JsonResponse(models.MessageAnswer(message_id=sent.message_id, created=answer.created))

    return routes
