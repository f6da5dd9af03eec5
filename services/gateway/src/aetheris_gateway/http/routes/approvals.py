"""Routes of what people are asked: approvals, and the tokens that jobs give away."""

from __future__ import annotations

from typing import Annotated, Any

from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from aetheris_gateway.core import intake
from aetheris_gateway.core.approval import ApprovalState
from aetheris_gateway.http import body, models, pages, questions
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.service import GatewayServices


class ApproveBody(body.Body):
    comment: str = Field("", max_length=1024, description="Why; it goes on record.")
    arguments: Any = Field(None, description="The arguments as edited; left out for as they are. At most 128 KiB.")


class RejectBody(body.Body):
    comment: str = Field("", max_length=1024, description="Why; it goes on record.")


class DelegateBody(body.Body):
    to: str = Field(max_length=256, description="Who answers instead: a role, or person:NAME.")
    comment: str = Field("", max_length=1024, description="Why; it goes on record.")


class FailedBody(body.Body):
    error: str = Field(max_length=1024, description="What went wrong.")


PAGE_ROWS = 50
_ANY = {"requestBody": {"required": False, "content": {"application/json": {"schema": {}}}}}


def router(services: GatewayServices) -> APIRouter:
    routes = APIRouter(tags=["people"])

    async def decide(request: Request, wanted: pb.DecideRequest) -> JsonResponse:
        response = await services.approvals.decide(services.identity.caller(request.headers), wanted)
        return JsonResponse(questions.approval(response.approval))

    @routes.get("/api/approvals", response_model=models.ApprovalPage, summary="What waits for a decision, oldest first")
    async def approvals(
        request: Request,
        state: Annotated[
            list[str], Query(max_length=5, description="pending (the default), approved, rejected, expired, withdrawn.")
        ] = [],  # noqa: B006
        approver: Annotated[str, Query(max_length=256, description="Only for this role or person:NAME.")] = "",
        job: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        wanted = pb.ListApprovalsRequest(
            states=[_state(each) for each in state], approver=approver, job_id=job, page_size=limit, page_token=cursor
        )
        page = await services.approvals.list(services.identity.caller(request.headers), wanted)
        return JsonResponse(questions.approval_page(page))

    @routes.get("/approvals", summary="What waits for a decision, as a page")
    async def inbox(request: Request, cursor: Annotated[str, Query(max_length=1024)] = "") -> Response:
        caller = services.identity.caller(request.headers)
        page = await services.approvals.list(caller, pb.ListApprovalsRequest(page_size=PAGE_ROWS, page_token=cursor))
        return pages.approvals(caller.person, questions.approval_page(page))

    @routes.get("/api/approvals/{approval_id}", response_model=models.Approval, summary="Show an approval")
    async def approval(approval_id: str, request: Request) -> JsonResponse:
        wanted = pb.GetApprovalRequest(approval_id=approval_id)
        found = await services.approvals.get(services.identity.caller(request.headers), wanted)
        return JsonResponse(questions.approval(found.approval))

    @routes.post(
        "/api/approvals/{approval_id}/approve",
        response_model=models.Approval,
        openapi_extra=body.accepts(ApproveBody, required=False),
        summary="Say yes, if you like to edited arguments",
    )
    async def approve(approval_id: str, request: Request) -> JsonResponse:
        """Durable when this answers; each person answers once. Who you are, the headers Aetheris-Actor and
        Aetheris-Roles say."""
        sent = await body.read(request, ApproveBody, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        edited = intake.dump(sent.arguments) if "arguments" in sent.model_fields_set else b""
        comment = intake.prose(sent.comment, "comment")
        return await decide(
            request, pb.DecideRequest(approval_id=approval_id, approved=True, comment=comment, edited=edited)
        )

    @routes.post(
        "/api/approvals/{approval_id}/reject",
        response_model=models.Approval,
        openapi_extra=body.accepts(RejectBody, required=False),
        summary="Say no",
    )
    async def reject(approval_id: str, request: Request) -> JsonResponse:
        """The first no decides."""
        sent = await body.read(request, RejectBody, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        comment = intake.prose(sent.comment, "comment")
        return await decide(request, pb.DecideRequest(approval_id=approval_id, comment=comment))

    @routes.post(
        "/api/approvals/{approval_id}/delegate",
        response_model=models.Approval,
        openapi_extra=body.accepts(DelegateBody),
        summary="Hand your answer to somebody else",
    )
    async def delegate(approval_id: str, request: Request) -> JsonResponse:
        sent = await body.read(request, DelegateBody, bytes_max=body.NOTE_BYTES_MAX)
        to, comment = intake.approver(intake.prose(sent.to, "to"), "to"), intake.prose(sent.comment, "comment")
        return await decide(request, pb.DecideRequest(approval_id=approval_id, comment=comment, delegate=to))

    @routes.post(
        "/api/tokens/{token}",
        response_model=models.TokenAnswer,
        openapi_extra=_ANY,
        summary="Say the one thing that a token allows",
    )
    async def complete(
        token: str,
        request: Request,
        failed: Annotated[bool, Query(description='The body is {"error": "…"}: the agent sees an error.')] = False,
    ) -> JsonResponse:
        """The body, any JSON of at most 256 KiB, is what the agent gets; nothing is null. The token is the
        permission. Saying the same again is a success that changes nothing."""
        wanted = pb.CompleteTokenRequest(token=_ascii(token))
        if failed:
            sent = await body.read(request, FailedBody, bytes_max=body.NOTE_BYTES_MAX)
            wanted.error = intake.prose(sent.error, "error")
        else:
            wanted.payload = await body.value(request, bytes_max=body.NOTE_BYTES_MAX)
        answer = await services.tokens.complete(wanted)
        return JsonResponse(models.TokenAnswer(job_id=answer.job_id, created=answer.created))

    return routes


def _state(text: str) -> pb.Approval.State:
    for state, name in questions.APPROVAL_STATES.items():
        if name == text:
            return state
    raise Invalid(f"state is one of {', '.join(state.name.lower() for state in ApprovalState)}", field="state")


def _ascii(token: str) -> str:
    # A token that is none is refused as such, whatever its characters are.
    return token if token.isascii() else "-"
