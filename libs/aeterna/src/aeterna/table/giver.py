"""The giver's table: it serves, freezes, and ends as the standby or serves on.

After a freeze it serves again only if it has won the claim, or if the broker says that the process which won the claim
is dead. So whichever message is lost, giver and taker never serve at the same time.
"""

from enum import Enum, auto

from aeterna.table.events import HandoverEvent


class GiverState(Enum):
    """Whether the giver owns the state, and whether it acts."""

    SERVING = auto()  # owns and acts
    EXPORTING = auto()  # owns and acts, writes its state out
    FROZEN = auto()  # may own, does not act
    DOUBTING = auto()  # reads the claim
    YIELDED = auto()  # the taker won the claim; the copies stay until the broker says how it ended
    STANDBY = auto()  # does not own; keeps its memory until the soak is over


class GiverAction(Enum):
    """Actions of the giver."""

    EXPORT = auto()
    SEND_REST = auto()  # changes since the export, the connections, END
    SEND_ABORT = auto()
    CANCEL = auto()  # stop exporting; the application was never frozen
    CLAIM = auto()
    THAW = auto()  # no other process has read or written: all connections are good
    THAW_PROVEN = auto()  # only connections whose counters prove that they are untouched
    DROP = auto()  # close the copies
    TAKE_BACK = auto()  # the taker is dead; apply the deltas it sent


Actions = tuple[GiverAction, ...]
S, H, A = GiverState, HandoverEvent, GiverAction

TRANSITIONS: dict[tuple[GiverState, HandoverEvent], tuple[GiverState, Actions]] = {
    (S.SERVING, H.PREPARE): (S.EXPORTING, (A.EXPORT,)),
    (S.SERVING, H.DONE): (S.STANDBY, (A.DROP,)),  # the taker started cold
    (S.EXPORTING, H.FROZE): (S.FROZEN, (A.SEND_REST,)),
    (S.EXPORTING, H.EXPORT_FAILED): (S.SERVING, (A.SEND_ABORT, A.CANCEL)),
    (S.EXPORTING, H.ABORT): (S.SERVING, (A.CANCEL,)),
    (S.EXPORTING, H.RESUME): (S.SERVING, (A.CANCEL,)),
    (S.EXPORTING, H.BROKER_HUNG_UP): (S.SERVING, (A.CANCEL,)),
    (S.EXPORTING, H.LATE): (S.SERVING, (A.SEND_ABORT, A.CANCEL)),
    (S.FROZEN, H.EXPORT_FAILED): (S.DOUBTING, (A.SEND_ABORT, A.CLAIM)),
    (S.FROZEN, H.ABORT): (S.DOUBTING, (A.CLAIM,)),
    (S.FROZEN, H.RESUME): (S.DOUBTING, (A.CLAIM,)),
    (S.FROZEN, H.BROKER_HUNG_UP): (S.DOUBTING, (A.CLAIM,)),
    (S.FROZEN, H.LATE): (S.DOUBTING, (A.SEND_ABORT, A.CLAIM)),
    (S.FROZEN, H.RESUME_CLAIMED): (S.SERVING, (A.THAW_PROVEN,)),
    (S.FROZEN, H.DONE): (S.STANDBY, (A.DROP,)),
    (S.DOUBTING, H.CLAIM_WON): (S.SERVING, (A.THAW,)),
    (S.DOUBTING, H.CLAIM_EMPTY): (S.YIELDED, ()),
    (S.YIELDED, H.RESUME_CLAIMED): (S.SERVING, (A.THAW_PROVEN,)),
    (S.YIELDED, H.DONE): (S.STANDBY, (A.DROP,)),
    (S.YIELDED, H.BROKER_HUNG_UP): (S.STANDBY, (A.DROP,)),
    (S.STANDBY, H.RESUME): (S.SERVING, (A.TAKE_BACK,)),
    (S.STANDBY, H.RESUME_CLAIMED): (S.SERVING, (A.TAKE_BACK,)),
}

ACTS = frozenset({S.SERVING, S.EXPORTING})


def advance(state: GiverState, event: HandoverEvent) -> tuple[GiverState, Actions]:
    """The next state and its actions. An event that is not in the table changes nothing."""
    return TRANSITIONS.get((state, event), (state, ()))
