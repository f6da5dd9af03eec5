"""The taker's table. It acts only after RELEASE, and only if it has won the claim."""

from enum import Enum, auto

from aeterna.table.events import HandoverEvent


class TakerState(Enum):
    """How far the taker has come."""

    WAITING = auto()
    RECEIVING = auto()
    LOADED = auto()  # everything is verified; the application builds itself from it
    REFUSING = auto()  # has said that it cannot use the state; the broker answers with COLD or ABORT
    PREPARED = auto()
    INSTALLING = auto()
    INSTALLED = auto()  # holds everything, has read nothing
    CLAIMING = auto()
    OWNER = auto()
    OUT = auto()


class TakerAction(Enum):
    """Actions of the taker."""

    LOAD = auto()  # give the state to the application
    FORGET = auto()  # begin empty
    SEND_ABORT = auto()
    SEND_PREPARED = auto()
    INSTALL = auto()
    SEND_INSTALLED = auto()
    CLAIM = auto()
    START = auto()  # from here on it reads, writes and owns
    SEND_READY = auto()
    DISCARD = auto()


Actions = tuple[TakerAction, ...]
S, H, A = TakerState, HandoverEvent, TakerAction

TRANSITIONS: dict[tuple[TakerState, HandoverEvent], tuple[TakerState, Actions]] = (
    {
        (S.WAITING, H.OFFER): (S.RECEIVING, ()),
        (S.RECEIVING, H.VERIFIED): (S.LOADED, (A.LOAD,)),
        (S.RECEIVING, H.REFUSED): (S.REFUSING, (A.SEND_ABORT,)),
        (S.LOADED, H.REFUSED): (S.REFUSING, (A.SEND_ABORT,)),
        (S.LOADED, H.APP_READY): (S.PREPARED, (A.SEND_PREPARED,)),
        (S.PREPARED, H.COMMIT): (S.INSTALLING, (A.INSTALL,)),
        (S.INSTALLING, H.INSTALLED): (S.INSTALLED, (A.SEND_INSTALLED,)),
        (S.INSTALLING, H.REFUSED): (S.REFUSING, (A.SEND_ABORT,)),
        (S.INSTALLED, H.RELEASE): (S.CLAIMING, (A.CLAIM,)),
        (S.CLAIMING, H.CLAIM_WON): (S.OWNER, (A.START, A.SEND_READY)),
        (S.CLAIMING, H.CLAIM_EMPTY): (S.OUT, (A.SEND_ABORT, A.DISCARD)),
    }
    | {
        (state, H.COLD): (S.LOADED, (A.FORGET, A.LOAD))
        for state in (S.WAITING, S.RECEIVING, S.LOADED, S.REFUSING, S.PREPARED, S.INSTALLING, S.INSTALLED)
    }
    | {
        (state, event): (S.OUT, actions)
        for state in (S.WAITING, S.RECEIVING, S.LOADED, S.REFUSING, S.PREPARED, S.INSTALLING, S.INSTALLED)
        for event, actions in (
            (H.ABORT, (A.DISCARD,)),
            (H.BROKER_HUNG_UP, (A.DISCARD,)),
            (H.LATE, (A.SEND_ABORT, A.DISCARD)),
        )
    }
)

ACTS = frozenset({S.OWNER})


def advance(state: TakerState, event: HandoverEvent) -> tuple[TakerState, Actions]:
    """The next state and its actions. An event that is not in the table changes nothing."""
    return TRANSITIONS.get((state, event), (state, ()))
