"""The one that hands over, as a table: it serves, freezes, and ends as the standby or serves on.

It thaws only with the claim in its hand, or when the broker says that the claimant is dead. So whatever is
lost on the way, it never serves beside its successor.
"""

from enum import Enum, auto


class G(Enum):
    SERVING = auto()  # owns and acts
    EXPORTING = auto()  # owns and acts, writes its state out
    FROZEN = auto()  # may own, does not act
    DOUBTING = auto()  # asks the claim
    YIELDED = auto()  # the successor took the claim; the copies stay until the broker says how it ended
    STANDBY = auto()  # does not own; keeps its memory until the soak is over


class On(Enum):
    PREPARE = auto()
    FROZE = auto()  # the application stands still
    FAILED = auto()  # the application cannot export
    ABORT = auto()
    RESUME = auto()
    RESUME_CLAIMED = auto()  # the successor had claimed, and is dead
    DONE = auto()
    LOST = auto()  # no broker any more
    LATE = auto()
    WON = auto()  # the answer to CLAIM
    EMPTY = auto()


class Do(Enum):
    EXPORT = auto()
    SEND_REST = auto()  # what changed since the export, the connections, END
    SEND_ABORT = auto()
    CANCEL = auto()  # stop exporting; nothing stood still
    CLAIM = auto()
    THAW = auto()  # nobody else has read or written
    THAW_PROVEN = auto()  # only the connections that prove it
    DROP = auto()  # close the copies
    TAKE_BACK = auto()  # the successor is dead; apply the deltas it told


Actions = tuple[Do, ...]

TRANSITIONS: dict[tuple[G, On], tuple[G, Actions]] = {
    (G.SERVING, On.PREPARE): (G.EXPORTING, (Do.EXPORT,)),
    (G.SERVING, On.DONE): (G.STANDBY, (Do.DROP,)),  # the successor started cold
    (G.EXPORTING, On.FROZE): (G.FROZEN, (Do.SEND_REST,)),
    (G.EXPORTING, On.FAILED): (G.SERVING, (Do.SEND_ABORT, Do.CANCEL)),
    (G.EXPORTING, On.ABORT): (G.SERVING, (Do.CANCEL,)),
    (G.EXPORTING, On.RESUME): (G.SERVING, (Do.CANCEL,)),
    (G.EXPORTING, On.LOST): (G.SERVING, (Do.CANCEL,)),
    (G.EXPORTING, On.LATE): (G.SERVING, (Do.SEND_ABORT, Do.CANCEL)),
    (G.FROZEN, On.FAILED): (G.DOUBTING, (Do.SEND_ABORT, Do.CLAIM)),
    (G.FROZEN, On.ABORT): (G.DOUBTING, (Do.CLAIM,)),
    (G.FROZEN, On.RESUME): (G.DOUBTING, (Do.CLAIM,)),
    (G.FROZEN, On.LOST): (G.DOUBTING, (Do.CLAIM,)),
    (G.FROZEN, On.LATE): (G.DOUBTING, (Do.SEND_ABORT, Do.CLAIM)),
    (G.FROZEN, On.RESUME_CLAIMED): (G.SERVING, (Do.THAW_PROVEN,)),
    (G.FROZEN, On.DONE): (G.STANDBY, (Do.DROP,)),
    (G.DOUBTING, On.WON): (G.SERVING, (Do.THAW,)),
    (G.DOUBTING, On.EMPTY): (G.YIELDED, ()),
    (G.YIELDED, On.RESUME_CLAIMED): (G.SERVING, (Do.THAW_PROVEN,)),
    (G.YIELDED, On.DONE): (G.STANDBY, (Do.DROP,)),
    (G.YIELDED, On.LOST): (G.STANDBY, (Do.DROP,)),
    (G.STANDBY, On.RESUME): (G.SERVING, (Do.TAKE_BACK,)),
    (G.STANDBY, On.RESUME_CLAIMED): (G.SERVING, (Do.TAKE_BACK,)),
}

ACTS = frozenset({G.SERVING, G.EXPORTING})


def step(state: G, event: On) -> tuple[G, Actions]:
    """Total: what is not in the table changes nothing."""
    return TRANSITIONS.get((state, event), (state, ()))
