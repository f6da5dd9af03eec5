"""Messages to the core's values, and back."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import Commit
from aetheris_journal.codec import from_failure, unreadable
from aetheris_journal.effect import Change, EffectResolution, EffectState
from aetheris_journal.events import Resolution, Source
from aetheris_kernel.errors import Invalid
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_ledger.core.audit import VerifyReport
from aetheris_ledger.core.effect import Effect, check_resolution
from aetheris_ledger.store.contract import UNSETTLED, EffectListing, ResolutionPage, Want

PAGE_DEFAULT, PAGE_MAX = 1_000, 10_000
LIST_DEFAULT, LIST_MAX = 100, 1_000
FIND_KEYS_MAX = 1_000

_STATES = {int(state): state for state in EffectState}
_RESOLUTIONS = {int(kind): kind for kind in Resolution}
_TOKEN = struct.Struct(">Q")

# One job appends many times, and parsing its id costs as much as the rest of the conversion.
job_id = lru_cache(maxsize=16_384)(parse_job_id)


def append(message: pb.Append) -> Append:
    changes = [_change(change) for change in message.effects] if message.effects else ()
    body = message.sealed_body or message.body
    # An empty body is refused by the core, with the sizes that a body may have.
    if body and (problem := unreadable(body)) is not None:
        raise Invalid(problem, field="body")
    return Append(
        job_id=job_id(message.job_id),
        tenant=message.tenant,
        seq=message.seq,
        parent=message.parent,
        lease=message.lease,
        body=body,
        changes=changes,
        checkpoint=message.checkpoint,
        terminal=message.terminal,
        job_key=message.job_key,
        new_job_key=message.new_job_key,
    )


def _change(message: pb.EffectChange) -> Change:
    state = _STATES.get(message.state)
    if state is None:
        raise Invalid("an effect goes to a state that has a name", field="state")
    return Change(message.key, state, message.tool, message.arguments_digest, message.result_digest)


def appended(correlation: int, answer: Answer) -> pb.Appended:
    message = pb.Appended(id=correlation, decision=answer.outcome.value, hash=answer.hash)  # type: ignore[arg-type]
    if answer.key:
        message.holder_job_id = answer.holder_job_id
        message.key = answer.key
        message.result = answer.result
    if answer.message:
        message.message = answer.message
    return message


def want(message: pb.Load | pb.ReadRequest | pb.WatchRequest) -> Want:
    if message.after_seq >= 2**63:
        raise Invalid("no chain is that long", field="after_seq")
    return Want(job_id(message.job_id), message.after_seq)


def find(message: pb.FindResolutions) -> tuple[str, UUID, Sequence[str]]:
    if len(message.keys) > FIND_KEYS_MAX:
        raise Invalid(f"one question names at most {FIND_KEYS_MAX} effects", field="keys")
    return _name(message.tenant, "tenant"), job_id(message.job_id), [_name(key, "keys") for key in message.keys]


def found(correlation: int, page: ResolutionPage, *, complete: bool) -> pb.FoundResolutions:
    resolutions = [pb.FoundResolution(key=key, note=_note(resolution)) for key, resolution in page.found]
    return pb.FoundResolutions(id=correlation, resolutions=resolutions, complete=complete)


def page_size(message: pb.ReadRequest) -> int:
    return min(message.page_size or PAGE_DEFAULT, PAGE_MAX)


def commit(commit: Commit) -> pb.Commit:
    return pb.Commit(
        seq=commit.seq,
        lease=commit.lease,
        record_time=_timestamp(commit.time_us),
        hash=commit.hash,
        body=commit.body,
        key=commit.key,
    )


def report(report: VerifyReport) -> pb.VerifyResponse:
    return pb.VerifyResponse(
        intact=report.intact,
        commits=report.commits,
        events=report.events,
        effects=report.effects,
        head=report.head,
        bad_seq=report.bad_seq,
        problem=report.problem,
    )


def listing(message: pb.ListEffectsRequest) -> EffectListing:
    """The listing asks for one effect more than the page holds, which says whether there is another page."""
    if message.state and message.state not in _STATES:
        raise Invalid("there is no such state", field="state")
    return EffectListing(
        tenant=_name(message.tenant, "tenant"),
        states=[_STATES[message.state]] if message.state else list(EffectState),
        job=job_id(message.job_id) if message.job_id else None,
        before=_place(message.page_token) if message.page_token else None,
        limit=min(message.page_size or LIST_DEFAULT, LIST_MAX) + 1,
    )


def listed(listing: EffectListing, effects: Sequence[Effect]) -> pb.ListEffectsResponse:
    page = effects[: listing.limit - 1]
    token = _token(page[-1]) if len(effects) > len(page) else ""
    return pb.ListEffectsResponse(effects=[effect(row) for row in page], next_page_token=token)


def effect(row: Effect) -> pb.Effect:
    updated_us = row.updated_us if row.resolution is None else max(row.updated_us, row.resolution.time_us)
    message = pb.Effect(
        tenant=row.tenant,
        key=row.key,
        job_id=str(row.job),
        seq=row.seq,
        tool=row.tool,
        arguments_digest=row.arguments_digest,
        state=row.state.value,  # type: ignore[arg-type]
        result_digest=row.result_digest,
        lease=row.lease,
        update_time=_timestamp(updated_us),
        outcome_seq=row.outcome_seq,
    )
    # The resolution of a settled effect is kept, so that leaving the same one again changes nothing, and not sent: the
    # job's holder has nothing left to do with it.
    if row.resolution is not None and row.state in UNSETTLED:
        message.note.CopyFrom(_note(row.resolution))
    return message


def _note(resolution: EffectResolution) -> pb.EffectNote:
    return pb.EffectNote(
        verdict=resolution.kind.value,  # type: ignore[arg-type]
        source=resolution.source.value,  # type: ignore[arg-type]
        result=resolution.result,
        actor=resolution.actor,
        text=resolution.text,
    )


def resolution(message: pb.ResolveEffectRequest, now_us: int) -> tuple[str, str, EffectResolution]:
    """The effect's tenant and key, and a person's resolution of it."""
    kind = _RESOLUTIONS.get(message.verdict)
    if kind is None:
        raise Invalid("a verdict is COMMITTED, NOT_EXECUTED or ABANDONED", field="verdict")
    if not message.actor:
        raise Invalid("a verdict names its actor", field="actor")
    left = EffectResolution(kind, Source.PERSON, message.result, message.actor, message.note, now_us)
    return *_named(message), _checked(left)


def late_outcome(message: pb.ReportLateOutcomeRequest, now_us: int) -> tuple[str, str, EffectResolution]:
    """The effect's tenant and key, and the resolution that its tool's late outcome makes."""
    if message.HasField("failure") == bool(message.result):
        raise Invalid("a tool returned a result or raised a failure; a null result is `null`", field="result")
    if message.HasField("failure"):
        failure = from_failure(message.failure)
        text = f"{failure.type}: {failure.message}"
        left = EffectResolution(Resolution.NOT_EXECUTED, Source.LATE_OUTCOME, text=text[:2_000], time_us=now_us)
    else:
        left = EffectResolution(Resolution.COMMITTED, Source.LATE_OUTCOME, message.result, time_us=now_us)
    return *_named(message), _checked(left)


def _named(message: pb.ResolveEffectRequest | pb.ReportLateOutcomeRequest) -> tuple[str, str]:
    return _name(message.tenant, "tenant"), _name(message.key, "key")


def _name(text: str, field: str) -> str:
    if not text:
        raise Invalid(f"{field} is required", field=field)
    if "\0" in text:
        raise Invalid("a NUL character names nothing", field=field)
    return text


def _checked(resolution: EffectResolution) -> EffectResolution:
    check_resolution(resolution)
    if resolution.result:
        try:
            json.loads(resolution.result)
        except (ValueError, RecursionError) as fault:
            raise Invalid("the result is not JSON", field="result") from fault
    return resolution


def _timestamp(time_us: int) -> Timestamp:
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def _token(row: Effect) -> str:
    return base64.urlsafe_b64encode(_TOKEN.pack(row.updated_us) + row.key.encode()).decode()


def _place(token: str) -> tuple[int, str]:
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        (updated_us,) = _TOKEN.unpack_from(raw)
        key = raw[_TOKEN.size :].decode()
    except (binascii.Error, struct.error, ValueError) as fault:
        raise Invalid("a page token is what the last page gave", field="page_token") from fault
    if updated_us >= 2**63 or "\0" in key:
        raise Invalid("a page token is what the last page gave", field="page_token")
    return updated_us, key
