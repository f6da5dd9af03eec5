"""Who gets what: places, and what is known of the backlog."""

from __future__ import annotations

from uuid import UUID, uuid4

from aetheris_scheduler.core.claim import Backlog, Claim, Room, Slot
from aetheris_scheduler.core.session import Session, Skills

A, B = Skills(frozenset({"a"})), Skills(frozenset({"b"}))


def session(*, capacity: int = 10, credits: int = 10, held: int = 0, skills: Skills = A) -> Session:  # noqa: A002
    made = Session(uuid4(), uuid4(), "", skills, capacity, fresh_at=0.0)
    made.held = {uuid4(): 1 for _ in range(held)}
    made.credits = credits
    return made


def test_room_is_what_was_granted_and_what_fits():
    assert session(credits=3).room == 3
    assert session(credits=30).room == 10
    assert session(credits=30, held=8).room == 2
    assert session(credits=0).room == 0
    drained = session()
    drained.draining = True
    assert drained.room == 0


def test_a_grant_beyond_the_capacity_is_not_lost():
    runner = session(capacity=1, credits=1)
    job = uuid4()
    runner.take(job, 1)
    runner.grant(1)

    assert runner.room == 0
    runner.let_go(job, 1)
    assert runner.room == 1


def test_an_older_lease_lets_nothing_go():
    runner = session()
    job = uuid4()
    runner.take(job, 2)
    runner.let_go(job, 1)

    assert runner.held == {job: 2}


def test_the_emptiest_session_is_next():
    big, small = session(credits=3), session(credits=1)
    room = Room([small, big])
    order = [room.take_for("a", "q", set()) for _ in range(5)]

    assert [slot.session if slot else None for slot in order] == [big.id, big.id, small.id, big.id, None]


def test_a_new_job_does_not_pass_the_ones_that_wait():
    room = Room([session()])

    assert room.take_for("a", "q", {A}) is None
    assert room.take_for("b", "q", set()) is None
    assert room.take_for("a", "q", set()) is not None


def test_every_place_is_given_once():
    sessions = [session(credits=n) for n in (1, 2, 3)]
    room = Room(sessions)
    first = room.take_for("a", "q", set())
    (claim,) = room.claims({A}, may_ready=False)
    places = [slot.session for slot in [first, *claim.slots] if slot]

    assert sorted(places) == sorted(one.id for one in sessions for _ in range(one.room))
    assert claim.always


def test_claims_are_laid_out_only_where_they_can_be_made():
    room = Room([session(skills=A), session(skills=B)])

    assert room.claims(set(), may_ready=False) == []
    assert [claim.skills for claim in room.claims({B}, may_ready=False)] == [B]
    room = Room([session(skills=A), session(skills=B)])
    assert [(claim.skills, claim.always) for claim in room.claims({B}, may_ready=True)] == [(A, False), (B, True)]


def claim(skills: Skills, places: int) -> Claim:
    return Claim(skills, [Slot(UUID(int=n), UUID(int=n), "") for n in range(places)], always=True)


def test_the_backlog_is_known_from_claims_that_got_less_than_they_asked_for():
    backlog = Backlog()
    assert backlog.busy([A, B]) == {A, B}
    backlog.claimed(claim(A, 3), 2)
    assert backlog.busy([A, B]) == {B}
    backlog.claimed(claim(A, 3), 3)
    assert backlog.busy([A]) == {A}
    backlog.claimed(claim(A, 3), 0)
    backlog.claimed(claim(B, 3), 0)
    backlog.appeared([("a", "q")])

    assert backlog.busy([A, B]) == {A}
    backlog.forget()
    assert backlog.busy([A, B]) == {A, B}


def test_skills():
    assert Skills().cover("any", "thing")
    assert Skills(frozenset({"a"}), frozenset({"q"})).cover("a", "q")
    assert not Skills(frozenset({"a"}), frozenset({"q"})).cover("a", "other")
    assert not Skills(frozenset({"a"})).cover("b", "q")
