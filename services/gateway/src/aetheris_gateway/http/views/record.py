"""A job's record in the shapes of REST: events, commits, and whether the chain is intact."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import fields
from datetime import timedelta
from enum import IntEnum
from typing import Any

from aetheris_api import record as shapes
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb

from aetheris_gateway.http.render import embed
from aetheris_gateway.http.views.fields import failure_of, milliseconds, stamp_of
from aetheris_gateway.service.record import events_of


def commit(found: ledger_pb.Commit) -> shapes.Commit:
    recorded, digest = stamp_of(found.record_time), found.hash.hex()
    return shapes.Commit(
        seq=found.seq,
        lease=found.lease,
        recorded_at=recorded,
        hash=digest,
        events=[
            shapes.Event(
                seq=found.seq,
                type=codec.NAMES[type(event)],
                at=event.at,
                recorded_at=recorded,
                lease=found.lease,
                hash=digest,
                data={field.name: _value(getattr(event, field.name)) for field in fields(event) if field.name != "at"},
            )
            for event in events_of(found)
        ],
    )


def _value(value: Any) -> Any:
    match value:
        case bytes():
            return embed(value)
        case IntEnum():
            return value.name.lower()
        case timedelta():
            return milliseconds(value)
        case e.Failure():
            return failure_of(value)
    return value


def event_page(page: pb.ReadEventsResponse) -> shapes.EventPage:
    return shapes.EventPage(
        events=[event for found in page.commits for event in commit(found).events], next_after=_next_after(page)
    )


def commit_page(page: pb.ReadEventsResponse) -> shapes.CommitPage:
    commits = [
        shapes.StoredCommit(
            seq=found.seq,
            lease=found.lease,
            time=stamp_of(found.record_time),
            hash=found.hash.hex(),
            body=b64encode(found.body).decode(),
            key=found.key.hex(),
        )
        for found in page.commits
    ]
    return shapes.CommitPage(commits=commits, next_after=_next_after(page))


def _next_after(page: pb.ReadEventsResponse) -> int | None:
    return page.commits[-1].seq if page.more and page.commits else None


def verification(job_id: str, response: pb.VerifyJobResponse) -> shapes.Verification:
    found = response.verdict
    return shapes.Verification(
        job_id=job_id,
        intact=found.intact,
        commits=found.commits,
        events=found.events,
        effects=found.effects,
        head=found.head.hex(),
        bad_seq=found.bad_seq or None,
        problem=found.problem or None,
    )
