"""The one vocabulary of a hand-over: each event has the same name in every table, report and log line.

A hand-over moves state and connections from the *giver* (the process that serves) to the *taker* (its successor;
after a rollback the roles are reversed). The broker inside the supervisor decides. `table.broker`, `table.giver` and
`table.taker` are its three tables, `table.service` is the supervisor's, and the broker reports to the supervisor in
the same words.

    taker JOINED → PREPARE → FROZE → END → VERIFIED → APP_READY → PREPARED → COMMIT → INSTALLED → RELEASE
                 → CLAIM_WON → READY → DONE

An event that carries the name of a message of the protocol (docs/srp.md, section 3) is that message, sent or received.
It stands alone because all four tables and both ends of the wire import it.
"""

from enum import Enum


class HandoverEvent(Enum):
    """Every event of a hand-over of state."""

    # A member joins.
    JOINED = "joined"  # report: a process has said HELLO and asks for its state
    GIVER_JOINED = "giver-joined"
    TAKER_JOINED = "taker-joined"
    # The steps, in order.
    PREPARE = "prepare"  # the broker asks the giver for its state
    FROZE = "froze"  # the giver's application stands still
    OFFER = "offer"  # the taker begins to receive
    END = "end"  # the giver has sent everything
    VERIFIED = "verified"  # the taker has checked everything it received
    APP_READY = "app-ready"  # the taker's application has built itself from the state
    PREPARED = "prepared"  # the taker could take over, and the giver stands still
    COMMIT = "commit"  # order
    COMMITTED = "committed"  # report: COMMIT has been sent
    INSTALLED = "installed"  # the taker holds everything and has read nothing
    RELEASE = "release"  # order: the taker may claim
    CLAIM_WON = "claim-won"  # the reader of the claim owns
    CLAIM_EMPTY = "claim-empty"  # the other side has read the claim before
    READY = "ready"  # the taker owns
    DONE = "done"  # the giver is told that the taker owns
    FINISH = "finish"  # order: the soak is over, the giver is no longer needed
    # Without state.
    SKIP = "skip"  # order: let the taker begin with a checkpoint or empty
    COLD = "cold"  # the taker is told to begin empty
    SKIPPED = "skipped"  # report: the taker has begun with a checkpoint or empty
    # Back to the giver.
    ABORT = "abort"  # order
    RESUME = "resume"  # the giver may have its state back
    RESUME_CLAIMED = "resume-claimed"  # the same, and the taker had claimed and is dead
    RETURNED = "returned"  # report: the giver owns again
    # Failures.
    EXPORT_FAILED = "export-failed"  # the giver cannot export, or the broker refuses what it sent
    REFUSED = "refused"  # the taker cannot use the state
    LATE = "late"  # a time limit is over
    GIVER_HUNG_UP = "giver-hung-up"  # its connection ended; that proves no death
    GIVER_DIED = "giver-died"  # it has been reaped
    TAKER_HUNG_UP = "taker-hung-up"
    TAKER_DIED = "taker-died"
    BROKER_HUNG_UP = "broker-hung-up"
    FAILED = "failed"  # report: the giver serves on, the taker waits for ABORT or SKIP
