"""A body of format 2: its layout, spelled out once by hand, and what the hash covers."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256, shake_256
from uuid import UUID

import pytest
from aetheris_journal import codec, sealed
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, Commit, commit_hash, first_break

JOB = UUID("0190f1f0-aaaa-7bbb-8ccc-0123456789ab")
JOB_KEY = bytes(range(16))
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
STEP = e.StepCommitted("3", "look_up", b'["o-1"]', b'{"total":12.5}', 1, timedelta(milliseconds=3), at=AT)


def body_of(*events: e.Event, seq: int = 1) -> bytes:
    bodies = codec.SealedBodies("acme", JOB_KEY)
    entries = [bodies.entry(event) for event in events]
    return bodies.body(seq, [entry for entry, _ in entries], [each for _, payloads in entries for each in payloads])


def test_the_layout_is_head_and_payloads_and_the_root_is_over_salted_digests():
    key = sha256(JOB_KEY + (7).to_bytes(8, "big")).digest()[:16]
    salts = shake_256(key).digest(32)
    root = sha256(sha256(salts[:16] + b"one").digest() + sha256(salts[16:] + b"two!").digest()).digest()
    sizes = (3).to_bytes(4, "big") + (0).to_bytes(4, "big") + (4).to_bytes(4, "big")
    end = 1 + 4 + 32 + 4 + 1 + len(b"acme") + len(sizes) + len(b"skeleton")
    head = b"\x02" + end.to_bytes(4, "big") + root + (3).to_bytes(4, "big") + b"\x04acme" + sizes + b"skeleton"

    assert sealed.commit_key(JOB_KEY, 7) == key
    assert sealed.seal("acme", key, b"skeleton", [b"one", b"", b"two!"]) == head + b"one" + b"two!"
    assert sealed.hashed(head + b"onetwo!") == head


def test_the_bytes_are_the_same_in_every_release():
    body = body_of(STEP)

    assert sha256(body).hexdigest() == "1bb52e442d08d3881e917d7266c599de6577f8a2fcc151246860dcbffeb2f2cd"
    assert codec.decode(body) == [STEP]


def test_the_hash_covers_no_payload_and_the_root_covers_each():
    body = body_of(STEP)
    key = sealed.commit_key(JOB_KEY, 1)
    at = body.index(b"12.5")
    edited = body[:at] + b"13.5" + body[at + 4 :]

    assert commit_hash(GENESIS, JOB, 1, 1, 1, body) == commit_hash(GENESIS, JOB, 1, 1, 1, edited)
    assert sealed.problem_of(body, key) is None
    assert sealed.problem_of(edited, key) == "a payload does not match the digest in its commit"


def test_a_payload_without_its_key_cannot_be_checked_and_is_not_believed():
    body = body_of(STEP)
    commit = Commit(1, 1, 1, commit_hash(GENESIS, JOB, 1, 1, 1, body), body)

    found = first_break(JOB, [commit])

    assert found is not None
    assert "key is missing" in found.problem


def test_equal_payloads_have_different_digests_in_each_place():
    one, other = body_of(STEP, seq=1), body_of(STEP, seq=2)

    assert sealed.head_of(one).root != sealed.head_of(other).root


@pytest.mark.parametrize("cut", range(60))
def test_a_shortened_body_is_no_body(cut):
    body = body_of(STEP)

    with pytest.raises(ValueError):
        sealed.head_of(body[: len(body) - 1 - cut])


def test_only_the_root_names_and_sizes_say_anything_of_a_payload():
    secret = b"4111-1111-1111-1111"
    failure = e.Failure("CardDeclined", secret.decode(), stack=secret.decode())
    events = [
        e.JobCreated("a", "acme", "q", secret, at=AT),
        e.StepCommitted("0", "s", secret, secret, 1, timedelta(), at=AT),
        e.StepFailed("0", "s", secret, failure, 1, timedelta(), at=AT),
        e.EffectStarted("0", "t", secret, "k", 1, at=AT),
        e.EffectCommitted("0", "k", secret, 1, timedelta(), "j", "t", secret, at=AT),
        e.EffectFailed("0", "k", failure, 1, timedelta(), at=AT),
        e.EffectInDoubt("0", "k", secret.decode(), at=AT),
        e.EffectResolved("0", "k", e.Resolution.COMMITTED, e.Source.PERSON, secret, "ann", secret.decode(), at=AT),
        e.JobWaiting("0", e.WaitKind.OPERATOR, secret.decode(), detail=secret, at=AT),
        e.WaitCompleted("0", secret, at=AT),
        e.MessageReceived("c", "m", secret, at=AT),
        e.CheckpointSaved("0", secret, secret, at=AT),
        e.ValueRecorded("0", e.ValueKind.UUID, secret, at=AT),
        e.ChildStarted("0", "c", "a", secret, at=AT),
        e.ChildCompleted("0", "c", secret, failure, at=AT),
        e.StepCompensated("0", "k", secret, at=AT),
        e.PlanGenerated("0", secret, at=AT),
        e.JobCancelled(secret.decode(), at=AT),
        e.JobFailed(failure, at=AT),
        e.JobCompleted(secret, at=AT),
    ]
    body = body_of(*events)

    assert secret not in sealed.hashed(body)
    assert codec.decode(body) == events


def test_every_field_of_bytes_is_a_payload():
    """A field that an event gets later is one, too, unless it is left out here for a reason."""
    for event in codec.NAMES:
        values = {f.name for f in fields(event) if f.type == "bytes"}

        assert values <= set(codec._PAYLOADS[event]), event


def test_the_places_of_the_payloads_are_the_same_in_every_release():
    places = ";".join(f"{codec.NAMES[event]}:{','.join(names)}" for event, names in codec._PAYLOADS.items())

    assert sha256(places.encode()).hexdigest() == "9932bff3844260041cf53f1cb7cb57484ad7d3b00586ca267961b5e8e500afe0"
