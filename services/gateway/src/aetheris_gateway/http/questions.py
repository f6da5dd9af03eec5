"""Questions to people, in the shapes of REST."""

from __future__ import annotations

import json

from aetheris_proto.gateway.v1 import gateway_pb2 as pb

from aetheris_gateway.core.difference import difference
from aetheris_gateway.http import models as m
from aetheris_gateway.http.render import embed
from aetheris_gateway.http.views import stamp_of, time_of

APPROVAL_STATES: dict[pb.Approval.State, str] = {
    pb.Approval.STATE_PENDING: "pending",
    pb.Approval.STATE_APPROVED: "approved",
    pb.Approval.STATE_REJECTED: "rejected",
    pb.Approval.STATE_EXPIRED: "expired",
    pb.Approval.STATE_WITHDRAWN: "withdrawn",
}


def approval_page(page: pb.ListApprovalsResponse) -> m.ApprovalPage:
    return m.ApprovalPage(
        approvals=[approval(found) for found in page.approvals], next_cursor=page.next_page_token or None
    )


def approval(found: pb.Approval) -> m.Approval:
    here = f"/api/approvals/{found.approval_id}"
    return m.Approval(
        id=found.approval_id,
        job_id=found.job_id,
        path=found.path,
        state=APPROVAL_STATES.get(found.state, "unknown"),
        approver=found.approver,
        title=found.title,
        detail=embed(found.detail),
        arguments=embed(found.arguments),
        requester=found.requester or None,
        requester_may_decide=found.requester_may_decide,
        quorum=found.quorum,
        yeses=sum(decision.approved for decision in found.decisions),
        deadline=time_of(found, "deadline"),
        created_at=stamp_of(found.create_time),
        decisions=[_decision(decision, found.arguments) for decision in found.decisions],
        links=m.ApprovalLinks(self=here, job=f"/api/jobs/{found.job_id}", page=f"/api/jobs/{found.job_id}/trace/page"),
    )


def _decision(found: pb.Decision, asked: bytes) -> m.Decision:
    answer = "delegated" if found.delegate else "yes" if found.approved else "no"
    return m.Decision(
        actor=found.actor,
        answer=answer,
        comment=found.comment,
        arguments=embed(found.edited),
        diff=difference(json.loads(asked), json.loads(found.edited)) if found.edited else [],
        delegate=found.delegate or None,
        at=stamp_of(found.decide_time),
    )
