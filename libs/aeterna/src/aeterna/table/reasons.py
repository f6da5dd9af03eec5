"""Why a hand-over fails: one fixed list, so that a metric can count by reason."""

from enum import StrEnum


class Reason(StrEnum):
    UNAUTHORISED = "unauthorised"
    PROTOCOL = "protocol"
    ABORTED = "aborted"
    DUMP_TIMEOUT = "dump_timeout"
    DUMP_FAILED = "dump_failed"
    LATE = "late"
    LOAD_REFUSED = "load_refused"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    SCHEMA = "schema"
    PREDECESSOR_DIED = "predecessor_died"
    SUCCESSOR_DIED = "successor_died"
    PREDECESSOR_HUNG_UP = "predecessor_hung_up"
    SUCCESSOR_HUNG_UP = "successor_hung_up"

    @property
    def code(self) -> int:
        """Aeterna's error code for this reason."""
        return _CODES.get(self, 1000)

    @classmethod
    def read(cls, text: str) -> "Reason":
        """The reason that a peer gave; a reason outside the list is a breach of the protocol."""
        return cls(text) if text in _VALUES else cls.PROTOCOL


_VALUES = frozenset(Reason)
_CODES = {
    Reason.DUMP_TIMEOUT: 3003,
    Reason.DUMP_FAILED: 3003,
    Reason.LATE: 3003,
    Reason.LOAD_REFUSED: 3004,
    Reason.CORRUPT: 3004,
    Reason.TRUNCATED: 3004,
    Reason.OVERSIZED: 3004,
    Reason.SCHEMA: 3004,
    Reason.PREDECESSOR_DIED: 3002,
    Reason.SUCCESSOR_DIED: 3002,
    Reason.PREDECESSOR_HUNG_UP: 3002,
    Reason.SUCCESSOR_HUNG_UP: 3002,
}


class Breach(Exception):
    """A peer broke the protocol, or sent state that cannot be used."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
