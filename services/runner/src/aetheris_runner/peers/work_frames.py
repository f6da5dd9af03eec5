"""What waits to be sent to the scheduler, in frames of bounded size.

    outcomes, credits, a beat, suspects ──► collected ── take() ──► one frame
                  ▲                                        │
                  └── outcomes over the bound wait ◄───────┘

A stream's first frame is built in the same way: what does not fit into it follows in the next ones. The scheduler gets
outcomes in the order in which they were added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

# A frame has more bytes only if its one outcome has. gRPC refuses a message of 16 MiB.
FRAME_BYTES_MAX = 2 * 1024 * 1024
# The scheduler refuses a frame of more than 10,000 outcomes.
FRAME_OUTCOMES_MAX = 1_000

# The tag and the length in front of an outcome.
_ENVELOPE_BYTES = 6


class WorkFrames:
    """Collects for one stream at a time. `begin` starts the next stream."""

    def __init__(self) -> None:
        self._outcomes: deque[pb.Outcome] = deque()
        self._head = pb.WorkRequest()
        self._waiting = False

    def begin(self, hello: pb.Hello, beat: pb.Beat, outcomes: Iterable[pb.Outcome], room: int) -> None:
        """A stream begins: drop what waited for the last one, and put `hello` into the first frame. `room` is for how
        many more jobs there is room."""
        self._head = pb.WorkRequest(hello=hello, beat=beat, credits=room)
        self._outcomes = deque(outcomes)
        self._waiting = True

    def outcome(self, outcome: pb.Outcome) -> None:
        self._outcomes.append(outcome)
        self._waiting = True

    def credit(self) -> None:
        self._head.credits += 1
        self._waiting = True

    def beat(self, beat: pb.Beat) -> None:
        self._head.beat.CopyFrom(beat)
        self._waiting = True

    def suspects(self, suspects: Iterable[pb.Suspects]) -> None:
        self._head.suspects.extend(suspects)
        self._waiting = True

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return self._waiting

    def take(self) -> pb.WorkRequest:
        """The next frame. If `waiting` is still true afterwards, another one follows at once."""
        frame, self._head = self._head, pb.WorkRequest()
        size = frame.ByteSize()
        count = 0
        for outcome in self._outcomes:
            size += outcome.ByteSize() + _ENVELOPE_BYTES
            if count and (size > FRAME_BYTES_MAX or count == FRAME_OUTCOMES_MAX):
                break
            count += 1
        frame.outcomes.extend([self._outcomes.popleft() for _ in range(count)])
        self._waiting = bool(self._outcomes)
        return frame
