"""A holder that dies before or after any of its calls: its successors finish the job, and the world changed once.

The holder is the least that could be one: it loads the chain, goes on from where it ends, and asks the world
where the chain leaves a doubt. What makes it safe is the ledger's answers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from aetheris_journal import events as e
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.codec import decode, encode
from aetheris_journal.effect import EffectState
from aetheris_ledger.core.audit import change_of
from aetheris_ledger.store.contract import Want
from aetheris_ledger.store.memory import MemoryStore
from aetheris_ledger.verify import verify

from harness.clock import SimClock
from harness.crash import Crash, CrashAt, Fuse

JOB = UUID("0190f1f0-aaaa-7bbb-8ccc-0123456789ab")
AT = SimClock().now()
KEYS = ("first", "second")


class World:
    """What the tools change, and what a verify function may ask."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def act(self, key: str) -> bytes:
        self.calls.append(key)
        return b'"receipt"'

    async def ask(self, key: str) -> bool:
        return key in self.calls


class Fenced(Exception):
    pass


class Holder:
    def __init__(self, store: Any, world: Any, lease: int) -> None:
        self._store = store
        self._world = world
        self._lease = lease
        self._seq, self._parent = 0, GENESIS
        self._history: list[e.Event] = []

    async def run(self) -> None:
        (page,) = await self._store.load([Want(JOB)])
        for commit in page.commits:
            self._history.extend(decode(commit.body))
            self._seq, self._parent = commit.seq, commit.hash
        if self._has(e.JobCompleted):
            return
        created = [] if self._history else [e.JobCreated("a", "acme", "q", b"{}", at=AT)]
        await self._append(*created, e.JobLeased(self._lease, "r", at=AT))
        for key in KEYS:
            if not self._settled(key):
                await self._effect(key)
        await self._append(e.JobCompleted(b"1", at=AT))

    async def _effect(self, key: str) -> None:
        before: list[e.Event] = []
        if self._started(key):
            ran = await self._world.ask(key)
            verdict = e.Resolution.COMMITTED if ran else e.Resolution.NOT_EXECUTED
            result = b'"receipt"' if ran else b""
            before = [
                e.EffectInDoubt("0", key, "the holder died", at=AT),
                e.EffectResolved("0", key, verdict, e.Source.VERIFY, result, at=AT),
            ]
            if ran:
                await self._append(*before)
                return
        await self._append(*before, e.EffectStarted("0", "charge", b"[]", key, 1, at=AT))
        result = await self._world.act(key)
        await self._append(e.EffectCommitted("0", key, result, 1, timedelta(), at=AT))

    async def _append(self, *events: e.Event) -> None:
        changes = [change for event in events if (change := change_of(event)) is not None]
        append = Append(JOB, "acme", self._seq + 1, self._parent, self._lease, encode(events), changes)
        (answer,) = await self._store.append([append])
        if answer.outcome is not AppendOutcome.APPENDED:
            raise Fenced(answer)
        self._seq, self._parent = append.seq, answer.hash
        self._history.extend(events)

    def _has(self, kind: type[e.Event]) -> bool:
        return any(isinstance(event, kind) for event in self._history)

    def _settled(self, key: str) -> bool:
        last = self._last(key)
        return isinstance(last, e.EffectCommitted) or (
            isinstance(last, e.EffectResolved) and last.verdict is e.Resolution.COMMITTED
        )

    def _started(self, key: str) -> bool:
        return isinstance(self._last(key), e.EffectStarted)

    def _last(self, key: str) -> e.Event | None:
        return next((event for event in reversed(self._history) if getattr(event, "key", None) == key), None)


# load, lease, and for each effect intent, call, outcome; then the end.
CALLS = 9
POINTS = list(product(range(CALLS), [False, True]))


async def live(disk: MemoryStore, world: World, crashes: Sequence[tuple[int, bool]]) -> None:
    """One holder after the other, each with the next lease; all but the last die where they are told to."""
    for lease, (step, after) in enumerate(crashes, 1):
        fuse = Fuse(step, after=after)
        holder = Holder(CrashAt(disk, fuse=fuse), CrashAt(world, fuse=fuse), lease)
        try:
            await holder.run()
        except Crash:
            continue
    await Holder(disk, world, len(crashes) + 1).run()


async def checked(disk: MemoryStore, world: World) -> None:
    (page,) = await disk.load([Want(JOB)])
    report = await verify(disk, JOB)
    assert sorted(world.calls) == sorted(KEYS)
    assert first_break(JOB, page.commits) is None
    assert report.intact, report
    assert isinstance(decode(page.commits[-1].body)[-1], e.JobCompleted)
    for key in KEYS:
        effect = await disk.effect("acme", key)
        assert effect is not None
        assert (effect.state, effect.result_digest) == (EffectState.COMMITTED, sha256(b'"receipt"').digest())


async def test_undisturbed_it_makes_as_many_calls_as_the_points_below_cover():
    disk, world = MemoryStore(SimClock()), World()
    fuse = Fuse(-1)
    await Holder(CrashAt(disk, fuse=fuse), CrashAt(world, fuse=fuse), 1).run()

    assert fuse.calls == CALLS
    await checked(disk, world)


@pytest.mark.parametrize(("step", "after"), POINTS)
async def test_a_crash_anywhere_changes_nothing(step, after):
    disk, world = MemoryStore(SimClock()), World()
    await live(disk, world, [(step, after)])

    await checked(disk, world)


async def test_two_crashes_anywhere_change_nothing():
    for first, second in product(POINTS, POINTS):
        disk, world = MemoryStore(SimClock()), World()
        await live(disk, world, [first, second])

        await checked(disk, world)


APPENDS = 6


@pytest.mark.parametrize("frozen_at", range(1, APPENDS + 1))
async def test_a_holder_that_wakes_after_its_lease_is_fenced_and_the_world_changed_once(frozen_at):
    """X2. Frozen before its n-th append while a successor lives its whole life; thawed, it is refused."""
    disk, world = MemoryStore(SimClock()), World()

    with pytest.raises(Fenced) as fence:
        await Holder(Frozen(disk, world, frozen_at), world, 1).run()

    assert fence.value.args[0].outcome is AppendOutcome.FENCED
    await checked(disk, world)


class Frozen:
    """A store whose n-th append comes only after a successor has finished."""

    def __init__(self, disk: MemoryStore, world: World, frozen_at: int) -> None:
        self._disk = disk
        self._world = world
        self._left = frozen_at

    async def load(self, wants: Any) -> Any:
        return await self._disk.load(wants)

    async def append(self, appends: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            await Holder(self._disk, self._world, 2).run()
        return await self._disk.append(appends)
