"""The successor, as a table. It acts only after RELEASE and with the claim in its hand."""

from enum import Enum, auto


class T(Enum):
    WAITING = auto()
    RECEIVING = auto()
    LOADED = auto()  # all is verified; the application builds itself from it
    REFUSING = auto()  # has said that it cannot use the state; the broker decides: cold, or out
    PREPARED = auto()
    INSTALLING = auto()
    INSTALLED = auto()  # holds everything, has read nothing
    CLAIMING = auto()
    OWNER = auto()
    OUT = auto()


class On(Enum):
    OFFER = auto()
    COLD = auto()
    VERIFIED = auto()
    REFUSED = auto()  # by its own checks or by the application
    APP_READY = auto()
    COMMIT = auto()
    INSTALLED = auto()
    RELEASE = auto()
    ABORT = auto()
    LOST = auto()
    LATE = auto()
    WON = auto()
    EMPTY = auto()


class Do(Enum):
    LOAD = auto()  # give the state to the application
    FORGET = auto()  # begin empty
    SEND_ABORT = auto()
    SEND_PREPARED = auto()
    INSTALL = auto()
    SEND_INSTALLED = auto()
    CLAIM = auto()
    START = auto()  # from here it reads, writes and owns
    SEND_READY = auto()
    DISCARD = auto()


Actions = tuple[Do, ...]

TRANSITIONS: dict[tuple[T, On], tuple[T, Actions]] = (
    {
        (T.WAITING, On.OFFER): (T.RECEIVING, ()),
        (T.RECEIVING, On.VERIFIED): (T.LOADED, (Do.LOAD,)),
        (T.RECEIVING, On.REFUSED): (T.REFUSING, (Do.SEND_ABORT,)),
        (T.LOADED, On.REFUSED): (T.REFUSING, (Do.SEND_ABORT,)),
        (T.LOADED, On.APP_READY): (T.PREPARED, (Do.SEND_PREPARED,)),
        (T.PREPARED, On.COMMIT): (T.INSTALLING, (Do.INSTALL,)),
        (T.INSTALLING, On.INSTALLED): (T.INSTALLED, (Do.SEND_INSTALLED,)),
        (T.INSTALLING, On.REFUSED): (T.REFUSING, (Do.SEND_ABORT,)),
        (T.INSTALLED, On.RELEASE): (T.CLAIMING, (Do.CLAIM,)),
        (T.CLAIMING, On.WON): (T.OWNER, (Do.START, Do.SEND_READY)),
        (T.CLAIMING, On.EMPTY): (T.OUT, (Do.SEND_ABORT, Do.DISCARD)),
    }
    | {
        (state, On.COLD): (T.LOADED, (Do.FORGET, Do.LOAD))
        for state in (T.WAITING, T.RECEIVING, T.LOADED, T.REFUSING, T.PREPARED, T.INSTALLING, T.INSTALLED)
    }
    | {
        (state, event): (T.OUT, actions)
        for state in (T.WAITING, T.RECEIVING, T.LOADED, T.REFUSING, T.PREPARED, T.INSTALLING, T.INSTALLED)
        for event, actions in (
            (On.ABORT, (Do.DISCARD,)),
            (On.LOST, (Do.DISCARD,)),
            (On.LATE, (Do.SEND_ABORT, Do.DISCARD)),
        )
    }
)

ACTS = frozenset({T.OWNER})


def step(state: T, event: On) -> tuple[T, Actions]:
    """Total: what is not in the table changes nothing."""
    return TRANSITIONS.get((state, event), (state, ()))
