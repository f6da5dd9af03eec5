"""Routes of the inbox: signals and messages to a job."""

from __future__ import annotations

from aetheris_api import inbox as shapes
from aetheris_api import routes
from aetheris_kernel.ids import parse_job_id
from fastapi import Request

from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewMessage, NewSignal
from aetheris_gateway.http import body
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import GatewayServices


class InboxRoutes:
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    def _caller(self, request: Request) -> Caller:
        return self._services.identity.caller(request.headers)

    @endpoint(
        routes.SIGNAL_JOB,
        response_model=shapes.SignalAnswer,
        body=shapes.SignalBody,
        summary="Send a job a signal, once per correlation key",
    )
    async def signal(self, job_id: str, request: Request) -> JsonResponse:
        """Durable when this answers; a repetition succeeds and changes nothing. A signal may come before the job waits
        for it, and is accepted while the scheduler and the ledger are away."""
        sent = await body.read(request, shapes.SignalBody, bytes_max=body.CONTENT_BODY_BYTES_MAX)
        new = NewSignal(
            job_id=parse_job_id(job_id),
            correlation_key=sent.correlation_key,
            payload=intake.content(sent.payload, "payload"),
        )
        accepted = await self._services.inbox.signal(self._caller(request), new)
        return JsonResponse(shapes.SignalAnswer(signal_id=str(accepted.entry_id), created=accepted.created))

    @endpoint(
        routes.SEND_MESSAGE,
        response_model=shapes.MessageAnswer,
        body=shapes.MessageBody,
        summary="Queue a message in a channel of a job, once per message id",
    )
    async def message(self, job_id: str, request: Request) -> JsonResponse:
        """Durable when this answers. Messages reach the job in the order in which they were accepted."""
        sent = await body.read(request, shapes.MessageBody, bytes_max=body.CONTENT_BODY_BYTES_MAX)
        new = NewMessage(
            job_id=parse_job_id(job_id),
            channel=sent.channel,
            message_id=sent.message_id,
            payload=intake.content(sent.payload, "payload"),
        )
        accepted = await self._services.inbox.send_message(self._caller(request), new)
        return JsonResponse(shapes.MessageAnswer(message_id=sent.message_id, created=accepted.created))
