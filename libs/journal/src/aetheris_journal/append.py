"""What a runner asks of the ledger for one commit, and what the ledger answers.

The runner builds an `Append`, the ledger decides it and returns an `Answer`; between them `ledger.proto` carries the
same fields. Both are built and dropped ten thousand times a second, so neither is frozen: a frozen dataclass costs
four times as much to build. Construct them with keywords.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from aetheris_journal.effect import Change

# The message of the answer RECORDED where the result is too large to be recorded.
TOO_LARGE = "too large"


class AppendOutcome(IntEnum):
    """What the ledger decided about an append. The numbers are sent: `Appended.Decision` in ledger.proto."""

    # The commit is stored, by this append or by an earlier one that was the same to the byte.
    APPENDED = 1
    # Not stored: an effect that it starts is committed already. The answer brings the recorded result.
    RECORDED = 2
    # Not stored: another job has started the effect and its outcome is not known yet.
    IN_FLIGHT = 3
    # Not stored: the effect is in doubt.
    IN_DOUBT = 4
    # Not stored: the parent is not the tail of the chain, so another runner holds the job now.
    FENCED = 5
    # Not stored, and sending it again will not help: `Answer.message` says what is wrong with it.
    REFUSED = 6
    # Not decided: send it again. The runner's ledger client does so and never shows this to a job.
    UNAVAILABLE = 7
    # Not stored: the effect was compensated or abandoned, or was made with other arguments (see `other_arguments`), so
    # this call can never use its key.
    SPENT = 8


@dataclass(slots=True)
class Append:
    """One commit at the tail of a job's chain, and what its events change in the record of effects."""

    job_id: UUID
    tenant: str
    seq: int
    parent: bytes
    lease: int
    body: bytes
    changes: Sequence[Change] = ()
    # Whether the body holds a checkpoint. The ledger does not open the body, so the runner says it.
    checkpoint: bool = False
    # With a body of format 2: the job's key, and whether the ledger has to store it (until a commit with it is stored).
    job_key: bytes = b""
    new_job_key: bool = False
    # Whether the last event of the body ends the job. The ledger accepts no append behind such a one.
    terminal: bool = False


@dataclass(slots=True)
class Answer:
    """The ledger's answer to an append."""

    outcome: AppendOutcome
    # With APPENDED: the hash of the commit, which is the parent of the next one.
    hash: bytes = b""
    # With RECORDED: what the effect returned, from the commit that holds its outcome.
    result: bytes = b""
    # With RECORDED, IN_FLIGHT, IN_DOUBT and SPENT: the effect in the way, and the job that owns it.
    key: str = ""
    holder_job_id: str = ""
    # With RECORDED, TOO_LARGE if `result` says only the size and the digest. With REFUSED and UNAVAILABLE, the reason;
    # with SPENT, the state of the effect, or the digests of other arguments.
    message: str = ""
    # The ledger's own, not sent, with APPENDED: when the commit was stored, and whether this call stored it.
    time_us: int = 0
    stored: bool = False


_OTHER_ARGUMENTS = "other arguments"


def other_arguments(recorded: bytes, given: bytes) -> str:
    """The message with SPENT if the key's effect was made with other arguments: the digests of both. It is no decision
    of its own, because runners of the first release stop at a decision that they do not know."""
    return f"{_OTHER_ARGUMENTS} {recorded.hex()} {given.hex()}"


def digests_of(message: str) -> tuple[str, str] | None:
    """The two digests of such a message; None of any other."""
    if not message.startswith(_OTHER_ARGUMENTS):
        return None
    recorded, given = message.removeprefix(_OTHER_ARGUMENTS).split()
    return recorded, given
