"""Approvals in the shapes of REST."""

from __future__ import annotations

import json

from aetheris_api import approvals as shapes
from aetheris_api.statuses import ApprovalState, Vote
from aetheris_proto.gateway.v1 import gateway_pb2 as pb

from aetheris_gateway.http.render import checked_json
from aetheris_gateway.http.views.fields import stamp_of, time_of

STATES: dict[pb.Approval.State, ApprovalState] = {
    pb.Approval.STATE_PENDING: ApprovalState.PENDING,
    pb.Approval.STATE_APPROVED: ApprovalState.APPROVED,
    pb.Approval.STATE_REJECTED: ApprovalState.REJECTED,
    pb.Approval.STATE_EXPIRED: ApprovalState.EXPIRED,
    pb.Approval.STATE_WITHDRAWN: ApprovalState.WITHDRAWN,
}


def approval(found: pb.Approval) -> shapes.Approval:
    return shapes.Approval(
        id=found.approval_id,
        job_id=found.job_id,
        path=found.path,
        state=STATES.get(found.state, "unknown"),
        approver=found.approver,
        title=found.title,
        detail=checked_json(found.detail),
        arguments=checked_json(found.arguments),
        requester=found.requester or None,
        requester_may_decide=found.requester_may_decide,
        quorum=found.quorum,
        yeses=sum(decision.approved for decision in found.decisions),
        deadline=time_of(found, "deadline"),
        created_at=stamp_of(found.create_time),
        decisions=[_decision(decision) for decision in found.decisions],
        links={
            "self": f"/api/approvals/{found.approval_id}",
            "job": f"/api/jobs/{found.job_id}",
            "page": f"/api/jobs/{found.job_id}/trace/page",
        },
    )


def _decision(found: pb.Decision) -> shapes.Decision:
    vote = Vote.DELEGATED if found.delegate else Vote.YES if found.approved else Vote.NO
    return shapes.Decision(
        actor=found.actor,
        answer=vote,
        comment=found.comment,
        arguments=checked_json(found.edited),
        diff=json.loads(found.difference) if found.difference else [],
        delegate=found.delegate or None,
        at=stamp_of(found.decide_time),
    )


def approval_page(page: pb.ListApprovalsResponse) -> shapes.ApprovalPage:
    return shapes.ApprovalPage(
        approvals=[approval(found) for found in page.approvals], next_cursor=page.next_page_token or None
    )
