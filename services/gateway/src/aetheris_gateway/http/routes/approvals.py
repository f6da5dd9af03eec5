"""Routes of approvals, and their page."""

from __future__ import annotations

from typing import Annotated

from aetheris_api import approvals as shapes
from aetheris_api import routes
from aetheris_api.statuses import ApprovalState
from aetheris_journal.limits import APPROVAL_ARGUMENTS_BYTES_MAX
from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import Query, Request
from starlette.responses import Response

from aetheris_gateway import convert
from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewDecision
from aetheris_gateway.http import body
from aetheris_gateway.http.pages import approvals as pages
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.http.views import approvals as views
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import GatewayServices

PAGE_ROWS = 50


class ApprovalRoutes:
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    def _caller(self, request: Request) -> Caller:
        return self._services.identity.caller(request.headers)

    @endpoint(
        routes.LIST_APPROVALS,
        response_model=shapes.ApprovalPage,
        summary="Approvals that wait for a decision, oldest first",
    )
    async def approvals(
        self,
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
        return JsonResponse(views.approval_page(await self._services.approvals.list(self._caller(request), wanted)))

    @endpoint(routes.APPROVALS_PAGE, summary="Approvals that wait for a decision, as a page")
    async def inbox(self, request: Request, cursor: Annotated[str, Query(max_length=1024)] = "") -> Response:
        caller = self._caller(request)
        wanted = pb.ListApprovalsRequest(page_size=PAGE_ROWS, page_token=cursor)
        page = await self._services.approvals.list(caller, wanted)
        return pages.approvals(caller.person, views.approval_page(page))

    @endpoint(routes.GET_APPROVAL, response_model=shapes.Approval, summary="Show an approval")
    async def approval(self, approval_id: str, request: Request) -> JsonResponse:
        wanted = pb.GetApprovalRequest(approval_id=approval_id)
        found = await self._services.approvals.get(self._caller(request), wanted)
        return JsonResponse(views.approval(found.approval))

    @endpoint(
        routes.APPROVE,
        response_model=shapes.Approval,
        body=shapes.ApproveBody,
        body_required=False,
        summary="Say yes, if you like with edited arguments",
    )
    async def approve(self, approval_id: str, request: Request) -> JsonResponse:
        """Durable when this answers; each person decides once. The headers Aetheris-Actor and Aetheris-Roles say who
        you are."""
        sent = await body.read(request, shapes.ApproveBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        edited = None
        if "arguments" in sent.model_fields_set:
            edited = intake.content(sent.arguments, "arguments", bytes_max=APPROVAL_ARGUMENTS_BYTES_MAX)
        new = NewDecision(
            approval_id=convert.approval_id(approval_id), approved=True, comment=sent.comment, edited=edited
        )
        return await self._decide(request, new)

    @endpoint(
        routes.REJECT,
        response_model=shapes.Approval,
        body=shapes.RejectBody,
        body_required=False,
        summary="Say no",
    )
    async def reject(self, approval_id: str, request: Request) -> JsonResponse:
        """The first no closes the approval."""
        sent = await body.read(request, shapes.RejectBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        new = NewDecision(approval_id=convert.approval_id(approval_id), comment=sent.comment)
        return await self._decide(request, new)

    @endpoint(
        routes.DELEGATE,
        response_model=shapes.Approval,
        body=shapes.DelegateBody,
        summary="Let another person or role decide instead of you",
    )
    async def delegate(self, approval_id: str, request: Request) -> JsonResponse:
        sent = await body.read(request, shapes.DelegateBody, bytes_max=body.CONTENT_BODY_BYTES_MAX)
        new = NewDecision(
            approval_id=convert.approval_id(approval_id),
            comment=sent.comment,
            delegate=intake.approver(sent.to, "to"),
        )
        return await self._decide(request, new)

    async def _decide(self, request: Request, new: NewDecision) -> JsonResponse:
        response = await self._services.approvals.decide(self._caller(request), new)
        return JsonResponse(views.approval(response.approval))


def _state(text: str) -> pb.Approval.State:
    for state, wire in convert.APPROVAL_STATES.items():
        if state == text:
            return wire
    raise Invalid(f"state is one of {', '.join(ApprovalState)}", field="state")
