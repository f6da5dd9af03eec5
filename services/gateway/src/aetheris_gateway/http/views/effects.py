"""Side effects in the shapes of REST."""

from __future__ import annotations

from aetheris_api import effects as shapes
from aetheris_api.statuses import EffectStatus
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2 as event_pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb

from aetheris_gateway.http.views.fields import time_of

STATES: dict[ledger_pb.EffectState, EffectStatus] = {
    ledger_pb.EFFECT_STATE_STARTED: EffectStatus.STARTED,
    ledger_pb.EFFECT_STATE_COMMITTED: EffectStatus.COMMITTED,
    ledger_pb.EFFECT_STATE_FAILED: EffectStatus.FAILED,
    ledger_pb.EFFECT_STATE_IN_DOUBT: EffectStatus.IN_DOUBT,
    ledger_pb.EFFECT_STATE_NOT_EXECUTED: EffectStatus.NOT_EXECUTED,
    ledger_pb.EFFECT_STATE_ABANDONED: EffectStatus.ABANDONED,
    ledger_pb.EFFECT_STATE_COMPENSATED: EffectStatus.COMPENSATED,
}


def effect(found: ledger_pb.Effect) -> shapes.Effect:
    resolution = event_pb.EffectResolved.Verdict.Name(found.note.verdict) if found.HasField("note") else ""
    return shapes.Effect(
        key=found.key,
        state=STATES.get(found.state, "unknown"),
        tool=found.tool,
        job_id=found.job_id,
        seq=found.seq,
        lease=found.lease,
        arguments_digest=found.arguments_digest.hex(),
        result_digest=found.result_digest.hex() or None,
        updated_at=time_of(found, "update_time"),
        verdict=resolution.removeprefix("VERDICT_").lower() or None,
    )


def effect_page(page: pb.ListEffectsResponse) -> shapes.EffectPage:
    return shapes.EffectPage(
        effects=[effect(found) for found in page.effects], next_cursor=page.next_page_token or None
    )
