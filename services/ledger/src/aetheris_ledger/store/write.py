"""Writes a batch of appends to PostgreSQL.

It tries to store all of them at once: one statement inserts the commits and, where effects change, a second one in the
same transaction moves their rows. Only for appends that were not stored does it read what stands in their way:

    apart ──► attempt ──► stored ──► APPENDED
      ▲          └──► not stored (all of it, rolled back, where an effect did not move)
      │                   ▼
      └── still free ◄── judge ──► answered: own retry, fenced, recorded, in flight, in doubt, refused

`judge` is the core's decision. An append that it lets through is attempted again, because rows may have changed since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog
from aetheris_chassis.postgres import Connection
from aetheris_chassis.queries import load_queries
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import commit_hash

from aetheris_ledger.core.append import CHANGES_MAX, judge
from aetheris_ledger.core.effect import Effect, EffectMove
from aetheris_ledger.store import rows
from aetheris_ledger.store.contract import with_result

log = structlog.get_logger()

Q = load_queries("aetheris_ledger")

# One statement carries at most this many bytes, so that a batch of large bodies does not fill memory.
STATEMENT_BYTES_MAX = 8 * 1024 * 1024
# A batch that other writers' changes have failed this often is left to its callers to send again.
ROUNDS_MAX = 16

Answers = dict[int, Answer]


class _NotMoved(Exception):
    """An effect could not be moved, or an ended job has one without an outcome: the transaction is rolled back."""


@dataclass(slots=True)
class Item:
    place: int  # in the batch
    append: Append
    wanted: Sequence[EffectMove]

    def resources(self) -> Iterator[tuple[object, object]]:
        """The commit and the effects that only one append of a round may touch."""
        yield self.append.job_id, self.append.seq
        for move in self.wanted:
            yield self.append.tenant, move.key


def parts(items: Sequence[Item]) -> Iterator[list[Item]]:
    """The items in parts that fit into one statement each."""
    part: list[Item] = []
    size = 0
    for item in items:
        size += len(item.append.body)
        if part and size > STATEMENT_BYTES_MAX:
            yield part
            part, size = [], len(item.append.body)
        part.append(item)
    if part:
        yield part


async def write(connection: Connection, items: Sequence[Item], time_us: int, answers: Answers) -> None:
    """Answer all `items`. One that the database does not take does not harm the others."""
    try:
        await _write_rounds(connection, items, time_us, answers)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as fault:
        # The database refuses an append that the checks let through: halve the batch until that append is alone.
        left = [item for item in items if item.place not in answers]
        if len(left) == 1:
            log.error("an append cannot be stored", job_id=str(left[0].append.job_id), exc_info=fault)
            answers[left[0].place] = Answer(AppendOutcome.REFUSED, message="the ledger cannot store this append")
            return
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            await write(connection, half, time_us, answers)


def leave(items: Sequence[Item], answers: Answers, problem: str) -> None:
    """Answer UNAVAILABLE to the items without an answer: their callers may send them again."""
    for item in items:
        if item.place not in answers:
            answers[item.place] = Answer(AppendOutcome.UNAVAILABLE, message=problem)


async def _write_rounds(connection: Connection, items: Sequence[Item], time_us: int, answers: Answers) -> None:
    for _ in range(ROUNDS_MAX):
        attempted, later = _apart(items)
        left = [*await _attempt(connection, attempted, time_us, answers), *later]
        if not left:
            return
        left.sort(key=lambda item: item.place)
        items = await _judged(connection, left, answers)
        if not items:
            return
    leave(items, answers, "the effects are contended")


def _apart(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """The items that touch nothing an earlier item touches, and the others. Both keep their order."""
    touched = [resource for item in items for resource in item.resources()]
    if len(set(touched)) == len(touched):
        return items, ()
    taken: set[object] = set()
    first: list[Item] = []
    later: list[Item] = []
    for item in items:
        wanted = set(item.resources())
        (first if taken.isdisjoint(wanted) else later).append(item)
        taken |= wanted
    return first, later


async def _attempt(connection: Connection, items: Sequence[Item], time_us: int, answers: Answers) -> Sequence[Item]:
    """Store and answer the items that can be stored, and return the others: all, if one effect does not move."""
    ordered = sorted(items, key=lambda item: (item.append.job_id.int, item.append.seq))
    appends = [item.append for item in ordered]
    hashes = [commit_hash(a.parent, a.job_id, a.seq, a.lease, time_us, a.body) for a in appends]
    if not any(item.wanted for item in ordered):
        stored = await _insert(connection, ordered, hashes, time_us)
    else:
        try:
            async with connection.transaction():
                stored = await _insert(connection, ordered, hashes, time_us)
                moved = [item for item in ordered if item.place in stored and item.wanted]
                await _move(connection, moved, time_us)
                await _ended(connection, [item for item in moved if item.append.terminal])
        except _NotMoved:
            return items
    for item, digest in zip(ordered, hashes, strict=True):
        if item.place in stored:
            answers[item.place] = Answer(AppendOutcome.APPENDED, hash=digest, time_us=time_us, stored=True)
    return [item for item in items if item.place not in stored]


async def _insert(
    connection: Connection, items: Sequence[Item], hashes: Sequence[bytes], time_us: int
) -> Container[int]:
    """The places in the batch of the items that were inserted. `items` are in the order of their jobs."""
    inserted = await connection.fetch(
        Q.append_commits,
        [item.append.job_id for item in items],
        [item.append.seq for item in items],
        [item.append.parent for item in items],
        [item.append.lease for item in items],
        hashes,
        [item.append.body for item in items],
        time_us,
        [item.append.checkpoint for item in items],
        [item.append.terminal for item in items],
        [item.append.terminal and not item.wanted for item in items],
        [item.append.tenant for item in items],
        [item.append.job_key if item.append.new_job_key else None for item in items],
        items[0].append.job_id,
        items[-1].append.job_id,
    )
    if len(inserted) == len(items):
        return {item.place for item in items}
    found = {(row["job_id"], row["seq"]) for row in inserted}
    return {item.place for item in items if (item.append.job_id, item.append.seq) in found}


async def _move(connection: Connection, items: Sequence[Item], time_us: int) -> None:
    moving = [rows.movement(item.append, move) for item in items for move in item.wanted]
    if not moving:
        return
    moving.sort(key=lambda row: row[:2])
    status = await connection.execute(Q.move_effects, *map(list, zip(*moving, strict=True)), time_us)
    if rows.count(status) < len(moving):
        raise _NotMoved


async def _ended(connection: Connection, items: Sequence[Item]) -> None:
    """Check the jobs that these items end, after their effects have moved."""
    if items and await connection.fetch(Q.unfinished, [item.append.job_id for item in items], 1):
        raise _NotMoved


async def _judged(connection: Connection, items: Sequence[Item], answers: Answers) -> list[Item]:
    """Answer the `items` that the stored rows decide, and return the others.

    An item that touches the same commit or effect as an earlier one without an answer waits for that one.
    """
    places = await connection.fetch(Q.places, [i.append.job_id for i in items], [i.append.seq for i in items])
    links = {row["n"]: rows.to_links(row) for row in places}
    effects = await _effects_of(connection, items)
    started = await _started_of(connection, items)
    free: list[Item] = []
    taken: set[object] = set()
    recorded: list[tuple[Item, Answer, Effect]] = []
    for n, item in enumerate(items, 1):
        answer = None
        if taken.isdisjoint(item.resources()):
            rows_of_keys = effects[item.append.tenant]
            answer = judge(item.append, item.wanted, *links[n], rows_of_keys, started[item.append.job_id])
        if answer is None:
            free.append(item)
            taken.update(item.resources())
        elif answer.outcome is AppendOutcome.RECORDED:
            recorded.append((item, answer, effects[item.append.tenant][answer.key]))
        else:
            answers[item.place] = answer
    if recorded:
        await _read_results(connection, recorded, answers)
    return free


async def _effects_of(connection: Connection, items: Sequence[Item]) -> dict[str, dict[str, Effect]]:
    names = [(item.append.tenant, move.key) for item in items for move in item.wanted]
    found: dict[str, dict[str, Effect]] = defaultdict(dict)
    if names:
        tenants, keys = map(list, zip(*names, strict=True))
        for row in await connection.fetch(Q.effects_confirmed, tenants, keys):
            found[row["tenant"]][row["key"]] = rows.to_effect(row)
    return found


async def _started_of(connection: Connection, items: Sequence[Item]) -> dict[UUID, list[str]]:
    """The started effects of the jobs that an item ends: one more of each than an append may change."""
    jobs = [item.append.job_id for item in items if item.append.terminal]
    found: dict[UUID, list[str]] = defaultdict(list)
    if jobs:
        for row in await connection.fetch(Q.unfinished, jobs, CHANGES_MAX + 1):
            found[row["job_id"]].append(row["key"])
    return found


async def _read_results(
    connection: Connection, recorded: Sequence[tuple[Item, Answer, Effect]], answers: Answers
) -> None:
    effects = [effect for _, _, effect in recorded]
    found = await connection.fetch(Q.bodies, [row.job for row in effects], [row.outcome_seq for row in effects])
    bodies = {row["n"]: row["body"] for row in found}
    for n, (item, answer, effect) in enumerate(recorded, 1):
        answers[item.place] = with_result(answer, effect, bodies.get(n))
