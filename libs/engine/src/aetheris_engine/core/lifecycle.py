"""The life of a run: one job in the memory of one runner, from its first lease on this runner until the runner forgets
it.

                    LEAVE                       the program decides what comes next
    RUNNING ◄──────────────────► LEAVING        its next new command waits: the job is to be handed back
       │ CANCEL        RESTED       │ CANCEL
       ▼                            ▼
    CANCELLING ────LEAVE───► CANCELLING_LEAVING recorded commands are still answered, no new one begins
       │ PROGRAM_OVER               │
       ▼                            ▼
    UNWINDING ◄────────────► UNWINDING_LEAVING  the program is over; taking back and closing children run
       │ TERMINAL                   │
       ▼                            ▼
    ENDED ◄─────────────────────────┘           the terminal event is recorded, and nothing follows it
    FAULTED                                     from everywhere: the run stops where it stands

Two gates follow from the state, and they never open for each other. The *program's gate* stands in front of every new
command; once a cancel has come it never opens again in this run. The *ending's gate* stands in front of every new act
of taking back; it is open only while the job unwinds and is not to be handed back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class RunState(Enum):
    RUNNING = auto()
    LEAVING = auto()
    CANCELLING = auto()
    CANCELLING_LEAVING = auto()
    UNWINDING = auto()
    UNWINDING_LEAVING = auto()
    ENDED = auto()
    FAULTED = auto()


class RunEvent(Enum):
    # The runner wants to hand the job back: it stops, or the job is paused.
    LEAVE = auto()
    # The job has parked, which gave its lease back: the reason for LEAVE is over.
    RESTED = auto()
    CANCEL = auto()
    # The program has returned, raised, or come to rest after a cancel.
    PROGRAM_OVER = auto()
    # The event that ends the job is recorded.
    TERMINAL = auto()
    # The run cannot go on: the lease is lost, the code diverges from the record, or the engine failed.
    FAULT = auto()


S, E = RunState, RunEvent

# (state, event) → state. A pair that is absent changes nothing.
TABLE: Mapping[tuple[RunState, RunEvent], RunState] = {
    (S.RUNNING, E.LEAVE): S.LEAVING,
    (S.RUNNING, E.CANCEL): S.CANCELLING,
    (S.RUNNING, E.PROGRAM_OVER): S.UNWINDING,
    (S.RUNNING, E.TERMINAL): S.ENDED,
    (S.LEAVING, E.RESTED): S.RUNNING,
    (S.LEAVING, E.CANCEL): S.CANCELLING_LEAVING,
    (S.LEAVING, E.PROGRAM_OVER): S.UNWINDING_LEAVING,
    (S.LEAVING, E.TERMINAL): S.ENDED,
    (S.CANCELLING, E.LEAVE): S.CANCELLING_LEAVING,
    (S.CANCELLING, E.PROGRAM_OVER): S.UNWINDING,
    (S.CANCELLING_LEAVING, E.RESTED): S.CANCELLING,
    (S.CANCELLING_LEAVING, E.PROGRAM_OVER): S.UNWINDING_LEAVING,
    (S.UNWINDING, E.LEAVE): S.UNWINDING_LEAVING,
    (S.UNWINDING, E.TERMINAL): S.ENDED,
    (S.UNWINDING_LEAVING, E.RESTED): S.UNWINDING,
    (S.UNWINDING_LEAVING, E.TERMINAL): S.ENDED,
    **{(state, E.FAULT): S.FAULTED for state in RunState if state is not S.FAULTED},
}

# A cancel has come: the program gives no new command.
HALTING = frozenset({S.CANCELLING, S.CANCELLING_LEAVING})
# No command of the program is answered any more, not even a recorded one.
PROGRAM_SHUT = frozenset({S.UNWINDING, S.UNWINDING_LEAVING, S.ENDED, S.FAULTED})
# The job is handed back at the next command that is not recorded.
LEAVING = frozenset({S.LEAVING, S.CANCELLING_LEAVING, S.UNWINDING_LEAVING})


class Lifecycle:
    """The state of one run. Only `on` changes it.

    What follows from the state is worked out when it changes: it is asked for several times with every command, and the
    hash of an enum member is a call.
    """

    def __init__(self) -> None:
        self._stand(RunState.RUNNING)

    def on(self, event: RunEvent) -> bool:
        """Apply the event. True if it changed the state."""
        after = TABLE.get((self.state, event))
        if after is None:
            return False
        self._stand(after)
        return True

    def _stand(self, state: RunState) -> None:
        self.state = state
        self.halting = state in HALTING
        self.leaving = state in LEAVING
        self.program_shut = state in PROGRAM_SHUT
        self.program_may_begin = state is RunState.RUNNING
        self.ending_may_begin = state is RunState.UNWINDING
        self.unwinding = state in (RunState.UNWINDING, RunState.UNWINDING_LEAVING, RunState.ENDED)
