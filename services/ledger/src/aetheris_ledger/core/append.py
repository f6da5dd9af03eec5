"""Decides appends: one commit at the tail of a job's chain, with the changes that it makes in the record of effects.

Every store decides by these functions. What a store adds is atomicity: of all appends that name one parent exactly one
is stored, and its effects move in the same transaction or it is not stored at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aetheris_journal.append import Answer, Append, AppendOutcome, other_arguments
from aetheris_journal.chain import GENESIS, commit_hash
from aetheris_journal.effect import EffectState
from aetheris_journal.limits import BODY_BYTES_MAX, EFFECT_KEY_BYTES_MAX, TENANT_BYTES_MAX, TOOL_NAME_BYTES_MAX
from aetheris_journal.sealed import JOB_KEY_BYTES, head_of, is_sealed
from aetheris_kernel.errors import Invalid

from aetheris_ledger.core.effect import Effect, EffectMove, moves, permits

CHANGES_MAX = 1_000
NUMBER_MAX = 2**63 - 1

_DIGEST_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class CommitLink:
    """A commit without its body; the hash identifies the body."""

    lease: int
    time_us: int
    hash: bytes
    # It ends the job.
    terminal: bool = False


# The outcome of a start that the state of the effect does not permit. Missing states refuse the append.
START_ANSWERS: Mapping[EffectState, AppendOutcome] = {
    EffectState.STARTED: AppendOutcome.IN_FLIGHT,
    EffectState.COMMITTED: AppendOutcome.RECORDED,
    EffectState.IN_DOUBT: AppendOutcome.IN_DOUBT,
    # A compensated or abandoned effect is over: its key can never be started again.
    EffectState.COMPENSATED: AppendOutcome.SPENT,
    EffectState.ABANDONED: AppendOutcome.SPENT,
}


def microseconds(moment: datetime) -> int:
    """A moment as the chain holds it: whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def check(append: Append) -> Sequence[EffectMove]:
    """The moves that the append makes. Raises Invalid where it could not be stored on any chain."""
    if not 1 <= append.seq <= NUMBER_MAX:
        raise Invalid("seq counts from 1", field="seq")
    if not 1 <= append.lease <= NUMBER_MAX:
        raise Invalid("a lease counts from 1", field="lease")
    if len(append.parent) != _DIGEST_BYTES:
        raise Invalid("a parent is a hash of 32 bytes", field="parent")
    if append.seq == 1 and append.parent != GENESIS:
        raise Invalid("the first commit's parent is 32 zero bytes", field="parent")
    if not 1 <= len(append.body) <= BODY_BYTES_MAX:
        raise Invalid(f"a body has 1 to {BODY_BYTES_MAX} bytes, not {len(append.body)}", field="body")
    _check_seal(append)
    if not append.changes:
        return ()
    wanted = _check_changes(append)
    if append.terminal and any(move.last is EffectState.STARTED for move in wanted):
        raise Invalid("the commit that ends a job starts no effect", field="effects")
    return wanted


def own_retry(append: Append, standing: CommitLink) -> bool:
    """Whether the commit at the append's place is this append itself, stored by an earlier try.

    The hash covers parent, lease, time and body, so equal hashes mean equal appends.
    """
    return standing.lease == append.lease and standing.hash == commit_hash(
        append.parent, append.job_id, append.seq, standing.lease, standing.time_us, append.body
    )


def judge(
    append: Append,
    wanted: Sequence[EffectMove],
    standing: CommitLink | None,
    before: CommitLink | None,
    effects: Mapping[str, Effect],
    started: Collection[str] = (),
) -> Answer | None:
    """The answer to an append that cannot be stored, or was stored before; None where it can be stored.

    `standing` is the commit at its place, `before` the commit before that, `effects` the rows of its keys. For an
    append that ends the job, `started` are the keys of the job's effects that are started.
    """
    if standing is not None:
        if own_retry(append, standing):
            return Answer(AppendOutcome.APPENDED, hash=standing.hash, time_us=standing.time_us)
        return Answer(AppendOutcome.FENCED)
    if append.seq > 1 and (before is None or before.hash != append.parent or before.lease > append.lease):
        return Answer(AppendOutcome.FENCED)
    if before is not None and before.terminal:
        return Answer(AppendOutcome.REFUSED, message="the job has ended: nothing follows the commit that ends it")
    for move in wanted:
        effect = effects.get(move.key)
        if not permits(effect, append.job_id, move.first):
            return _impossible(move, effect)
    if append.terminal:
        open_keys = set(started).difference(move.key for move in wanted)
        if open_keys:
            return Answer(
                AppendOutcome.REFUSED,
                message=f"the job cannot end while effect {min(open_keys)!r} is started and has no outcome",
            )
    return None


def _impossible(move: EffectMove, effect: Effect | None) -> Answer:
    if effect is None:
        return Answer(AppendOutcome.REFUSED, message=f"effect {move.key!r} was never started")
    if move.first is EffectState.STARTED and effect.state in START_ANSWERS:
        outcome = START_ANSWERS[effect.state]
        message = effect.state.name.lower() if outcome is AppendOutcome.SPENT else ""
        if not message and move.start is not None and move.start.arguments_digest != effect.arguments_digest:
            # The business key names another call. Its result would be the answer to a question that was not asked.
            outcome = AppendOutcome.SPENT
            message = other_arguments(effect.arguments_digest, move.start.arguments_digest)
        return Answer(outcome, key=effect.key, holder_job_id=str(effect.job), message=message)
    return Answer(
        AppendOutcome.REFUSED,
        message=f"effect {move.key!r} of job {effect.job} is {effect.state.name.lower()} and cannot become "
        f"{move.first.name.lower()}",
    )


def _check_seal(append: Append) -> None:
    """A body of format 2 comes with its job's key, and its head, which is all that is hashed, names the tenant."""
    if is_sealed(append.body) != bool(append.job_key):
        raise Invalid("a body of format 2 comes with the key of its job, and no other body does", field="job_key")
    if not append.job_key:
        if append.new_job_key:
            raise Invalid("there is no key to keep", field="new_job_key")
        return
    if len(append.job_key) != JOB_KEY_BYTES:
        raise Invalid(f"a job's key has {JOB_KEY_BYTES} bytes", field="job_key")
    try:
        tenant = head_of(append.body).tenant
    except ValueError as fault:
        raise Invalid(str(fault), field="sealed_body") from fault
    if tenant != append.tenant:
        raise Invalid("the body names another tenant", field="tenant")


def _check_changes(append: Append) -> Sequence[EffectMove]:
    _check_text(append.tenant, "tenant", TENANT_BYTES_MAX)
    if len(append.changes) > CHANGES_MAX:
        raise Invalid(f"an append changes at most {CHANGES_MAX} effects", field="effects")
    for change in append.changes:
        _check_text(change.key, "key", EFFECT_KEY_BYTES_MAX)
        if change.state is EffectState.STARTED:
            _check_text(change.tool, "tool", TOOL_NAME_BYTES_MAX)
            _check_digest(change.arguments_digest, "arguments_digest")
        elif change.tool or change.arguments_digest:
            raise Invalid("tool and arguments_digest belong to STARTED", field="tool")
        if change.state is EffectState.COMMITTED:
            _check_digest(change.result_digest, "result_digest")
        elif change.result_digest:
            raise Invalid("result_digest belongs to COMMITTED", field="result_digest")
    return moves(append.changes)


def _check_text(text: str, field: str, most: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{field} is no text: half a character cannot be stored", field=field) from None
    if not 1 <= size <= most:
        raise Invalid(f"{field} has 1 to {most} bytes", field=field)
    if "\0" in text:
        raise Invalid("a NUL character cannot be stored", field=field)


def _check_digest(digest: bytes, field: str) -> None:
    if len(digest) != _DIGEST_BYTES:
        raise Invalid(f"{field} is a SHA-256 of 32 bytes", field=field)
