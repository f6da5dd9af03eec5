"""The supervisor's table: the life of a supervised service, one upgrade after another.

Three roles: the *serving* process has the service, the *successor* is to get it, the *retiring* process had it.

    PENDING → STARTING → RUNNING ⇄ BACKING_OFF
                            │ UPGRADE
        PREFLIGHT → SPAWNING → PREPARING → COMMITTING → RELEASING → WARMING → SOAKING → PROMOTING → DRAINING
            ↓           ↓          ↓           ↓            ↓          ↓         ↓          ↓         │
         RUNNING    ROLLING_BACK ←─┴───────────┴────────────┘       RETURNING ←──┴──────────┘      RUNNING
                        ↓                                              ↓
                     RUNNING                                      ROLLING_BACK

Rules the tests hold against it:
 * every state that waits has a limit, and what happens when the limit is over;
 * every state of an upgrade has a way back to the old process, or, once the old one is gone, a way forward;
 * a pair that is absent means: nothing happens;
 * terminating a process that has already exited raises its EXITED event, so no state waits for a dead process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from aeterna.table.events import HandoverEvent


class ServiceState(Enum):
    """Where the service is."""

    PENDING = "pending"
    STARTING = "starting"  # the serving process is started and not ready
    RUNNING = "running"
    BACKING_OFF = "backing-off"  # no process; the next start waits
    PREFLIGHT = "preflight"  # hooks run; the old process serves
    SPAWNING = "spawning"  # the successor is started; it has not asked for state and is not ready
    PREPARING = "preparing"  # the old process exports and freezes
    COMMITTING = "committing"  # the successor installs; nothing of a live connection is read
    RELEASING = "releasing"  # the successor takes over
    WARMING = "warming"  # the state has moved; the readiness probes have not passed yet
    SOAKING = "soaking"  # the successor serves and is watched
    PROMOTING = "promoting"  # all new connections go to the successor; the old process empties its queue
    DRAINING = "draining"  # the old process finishes its open requests
    RETURNING = "returning"  # changes of the successor go back to the old process
    ROLLING_BACK = "rolling-back"  # the successor is told to stop; the old process serves
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceEvent(Enum):
    """Events of the service's processes and of its operator. The steps of a hand-over are `HandoverEvent`s."""

    START = "start"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    STOP = "stop"
    DEADLINE = "deadline"  # the state's limit is over
    SERVING_READY = "serving-ready"
    SERVING_CRASHED = "serving-crashed"  # it died, and the restart policy starts it again
    SERVING_FINISHED = "serving-finished"  # it died, and the restart policy does not start it again
    SUCCESSOR_READY = "successor-ready"
    SUCCESSOR_EXITED = "successor-exited"
    RETIRING_EXITED = "retiring-exited"
    ALL_EXITED = "all-exited"
    PREFLIGHT_PASSED = "preflight-passed"
    PREFLIGHT_FAILED = "preflight-failed"
    SOAK_FAILED = "soak-failed"
    QUEUE_EMPTY = "queue-empty"
    SUCCESSOR_JOINED = "successor-joined"  # the successor asks for state
    SERVING_JOINED = "serving-joined"  # the serving process asks for state, and no process could give it any


class ServiceAction(Enum):
    """Actions of the supervisor."""

    SPAWN_SERVING = "spawn-serving"
    SPAWN_SUCCESSOR = "spawn-successor"
    REREAD = "reread"  # read the configuration again, for a start without an upgrade
    USE_PREVIOUS = "use-previous"  # the next pre-flight is for the configuration before this one
    RUN_PREFLIGHT = "run-preflight"
    STOP_PREFLIGHT = "stop-preflight"
    PREPARE = "prepare"
    COMMIT = "commit"
    RELEASE = "release"
    SKIP_STATE = "skip-state"
    ABORT_HANDOVER = "abort-handover"
    ABANDON_OLD = "abandon-old"
    RETURN_STATE = "return-state"
    SETTLE = "settle"
    CHECK_READY = "check-ready"
    START_SOAK = "start-soak"
    STOP_SOAK = "stop-soak"
    STEER_TO_SUCCESSOR = "steer-to-successor"
    STEER_TO_SERVING = "steer-to-serving"
    ADOPT_SUCCESSOR = "adopt-successor"  # the serving process is dead: the successor gets its role
    PROMOTE = "promote"  # serving becomes retiring, successor becomes serving
    TERMINATE_SUCCESSOR = "terminate-successor"
    TERMINATE_RETIRING = "terminate-retiring"
    TERMINATE_ALL = "terminate-all"
    KILL_SERVING = "kill-serving"
    KILL_SUCCESSOR = "kill-successor"
    KILL_RETIRING = "kill-retiring"
    KILL_ALL = "kill-all"
    REPORT_STARTED = "report-started"
    REPORT_DONE = "report-done"
    REPORT_ABANDONED = "report-abandoned"
    EXIT = "exit"


class Limit(Enum):
    """The time limits of states; the configuration has the seconds."""

    STARTUP = "startup"
    BACK_OFF = "back-off"
    PREFLIGHT = "preflight"
    HANDOVER = "handover"
    SOAK = "soak"
    QUEUE = "queue"
    DRAIN = "drain"


S, E, H, A = ServiceState, ServiceEvent, HandoverEvent, ServiceAction

Event = ServiceEvent | HandoverEvent

# A state that is not here has no limit: the supervisor waits for nothing in it.
LIMITS: Mapping[ServiceState, Limit] = {
    S.STARTING: Limit.STARTUP,
    S.BACKING_OFF: Limit.BACK_OFF,
    S.PREFLIGHT: Limit.PREFLIGHT,
    S.SPAWNING: Limit.STARTUP,
    S.PREPARING: Limit.HANDOVER,
    S.COMMITTING: Limit.HANDOVER,
    S.RELEASING: Limit.HANDOVER,
    S.WARMING: Limit.STARTUP,
    S.SOAKING: Limit.SOAK,
    S.PROMOTING: Limit.QUEUE,
    S.DRAINING: Limit.DRAIN,
    S.RETURNING: Limit.HANDOVER,
    S.ROLLING_BACK: Limit.DRAIN,
    S.STOPPING: Limit.DRAIN,
}

Row = tuple[ServiceState, tuple[ServiceAction, ...]]

_ABORT: Row = (S.ROLLING_BACK, (A.ABORT_HANDOVER, A.TERMINATE_SUCCESSOR))
_GONE: Row = (S.RUNNING, (A.ABORT_HANDOVER, A.REPORT_ABANDONED))
# The old process dies while or after it gives its state: the successor goes on with what has arrived.
_FORWARD: Row = (S.STARTING, (A.ADOPT_SUCCESSOR, A.ABANDON_OLD, A.STEER_TO_SERVING, A.CHECK_READY))
_RETURN: Row = (S.RETURNING, (A.STOP_SOAK, A.STEER_TO_SERVING, A.RETURN_STATE))
_STOP: Row = (S.STOPPING, (A.TERMINATE_ALL,))
_WHILE_STATE_MOVES: Mapping[Event, Row] = {
    H.FAILED: _ABORT,
    E.DEADLINE: _ABORT,
    E.ROLLBACK: _ABORT,
    E.SUCCESSOR_EXITED: _GONE,
    E.SERVING_CRASHED: _FORWARD,
    E.SERVING_FINISHED: _FORWARD,
    E.STOP: (S.STOPPING, (A.ABORT_HANDOVER, A.TERMINATE_ALL)),
}

TRANSITIONS: Mapping[tuple[ServiceState, Event], Row] = {
    (S.PENDING, E.START): (S.STARTING, (A.SPAWN_SERVING,)),
    (S.PENDING, E.STOP): (S.STOPPED, (A.EXIT,)),
    # ── one process ──
    (S.STARTING, E.SERVING_READY): (S.RUNNING, (A.REPORT_STARTED,)),
    (S.STARTING, E.SERVING_CRASHED): (S.BACKING_OFF, ()),
    (S.STARTING, E.SERVING_FINISHED): _STOP,
    (S.STARTING, E.DEADLINE): (S.STARTING, (A.KILL_SERVING,)),
    # A serving process may ask for state long after it was judged ready, so it gets an answer in every state in which
    # no hand-over is under way.
    **{
        (state, E.SERVING_JOINED): (state, (A.SKIP_STATE,))
        for state in (S.STARTING, S.RUNNING, S.PREFLIGHT, S.DRAINING, S.ROLLING_BACK)
    },
    # These three belong to a successor that goes on alone after the old process died in the middle of a hand-over.
    (S.STARTING, H.PREPARED): (S.STARTING, (A.COMMIT,)),
    (S.STARTING, H.INSTALLED): (S.STARTING, (A.RELEASE,)),
    (S.STARTING, H.FAILED): (S.STARTING, (A.SKIP_STATE,)),
    (S.STARTING, E.STOP): _STOP,
    (S.RUNNING, E.SERVING_CRASHED): (S.BACKING_OFF, ()),
    (S.RUNNING, E.SERVING_FINISHED): _STOP,
    (S.RUNNING, E.UPGRADE): (S.PREFLIGHT, (A.RUN_PREFLIGHT,)),
    (S.RUNNING, E.ROLLBACK): (S.PREFLIGHT, (A.USE_PREVIOUS, A.RUN_PREFLIGHT)),
    (S.RUNNING, E.STOP): _STOP,
    (S.BACKING_OFF, E.DEADLINE): (S.STARTING, (A.SPAWN_SERVING,)),
    (S.BACKING_OFF, E.UPGRADE): (S.STARTING, (A.REREAD, A.SPAWN_SERVING)),
    (S.BACKING_OFF, E.STOP): _STOP,
    # ── an upgrade, before the successor has anything ──
    (S.PREFLIGHT, E.PREFLIGHT_PASSED): (S.SPAWNING, (A.SPAWN_SUCCESSOR,)),
    (S.PREFLIGHT, E.PREFLIGHT_FAILED): (S.RUNNING, (A.REPORT_ABANDONED,)),
    (S.PREFLIGHT, E.DEADLINE): (S.RUNNING, (A.STOP_PREFLIGHT, A.REPORT_ABANDONED)),
    (S.PREFLIGHT, E.ROLLBACK): (S.RUNNING, (A.STOP_PREFLIGHT, A.REPORT_ABANDONED)),
    (S.PREFLIGHT, E.SERVING_CRASHED): (S.BACKING_OFF, (A.STOP_PREFLIGHT, A.REPORT_ABANDONED)),
    (S.PREFLIGHT, E.SERVING_FINISHED): (S.STOPPING, (A.STOP_PREFLIGHT, A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.PREFLIGHT, E.STOP): (S.STOPPING, (A.STOP_PREFLIGHT, A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.SPAWNING, E.SUCCESSOR_JOINED): (S.PREPARING, (A.PREPARE,)),
    (S.SPAWNING, E.SUCCESSOR_READY): (S.SOAKING, (A.START_SOAK,)),
    (S.SPAWNING, E.SUCCESSOR_EXITED): _GONE,
    (S.SPAWNING, E.DEADLINE): _ABORT,
    (S.SPAWNING, E.ROLLBACK): _ABORT,
    # Nothing has moved and the new version is unproven: the known version is started again.
    (S.SPAWNING, E.SERVING_CRASHED): (S.BACKING_OFF, (A.ABORT_HANDOVER, A.KILL_SUCCESSOR, A.REPORT_ABANDONED)),
    (S.SPAWNING, E.SERVING_FINISHED): (S.STOPPING, (A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.SPAWNING, E.STOP): _STOP,
    # ── the hand-over of state: PREPARE → PREPARED → COMMIT → INSTALLED → RELEASE → READY ──
    (S.PREPARING, H.PREPARED): (S.COMMITTING, (A.COMMIT,)),
    (S.PREPARING, H.SKIPPED): (S.WARMING, (A.CHECK_READY,)),
    (S.COMMITTING, H.INSTALLED): (S.RELEASING, (A.RELEASE,)),
    (S.RELEASING, H.READY): (S.WARMING, (A.CHECK_READY,)),
    **{
        (state, event): row
        for state in (S.PREPARING, S.COMMITTING, S.RELEASING)
        for event, row in _WHILE_STATE_MOVES.items()
    },
    # ── the successor has the state; it could still go back to the old process ──
    (S.WARMING, E.SUCCESSOR_READY): (S.SOAKING, (A.START_SOAK,)),
    (S.WARMING, E.SUCCESSOR_EXITED): _RETURN,
    (S.WARMING, E.DEADLINE): _RETURN,
    (S.WARMING, E.ROLLBACK): _RETURN,
    (S.WARMING, E.SERVING_CRASHED): _FORWARD,
    (S.WARMING, E.SERVING_FINISHED): _FORWARD,
    (S.WARMING, E.STOP): _STOP,
    # A soak passes when its time limit is over, so here DEADLINE leads forward; a broken rule leads back.
    (S.SOAKING, E.DEADLINE): (S.PROMOTING, (A.STOP_SOAK, A.STEER_TO_SUCCESSOR)),
    (S.SOAKING, E.SOAK_FAILED): _RETURN,
    (S.SOAKING, E.SUCCESSOR_EXITED): _RETURN,
    (S.SOAKING, E.ROLLBACK): _RETURN,
    (S.PROMOTING, E.QUEUE_EMPTY): (S.DRAINING, (A.SETTLE, A.PROMOTE, A.TERMINATE_RETIRING)),
    (S.PROMOTING, E.DEADLINE): (S.DRAINING, (A.SETTLE, A.PROMOTE, A.TERMINATE_RETIRING)),
    (S.PROMOTING, E.SUCCESSOR_EXITED): _RETURN,
    (S.PROMOTING, E.ROLLBACK): _RETURN,
    **{
        (state, event): row
        for state in (S.SOAKING, S.PROMOTING)
        for event, row in {
            # The successor has been ready, so the supervisor does not wait for its readiness again.
            E.SERVING_CRASHED: (
                S.RUNNING,
                (A.STOP_SOAK, A.SETTLE, A.ADOPT_SUCCESSOR, A.STEER_TO_SERVING, A.REPORT_DONE),
            ),
            E.SERVING_FINISHED: (
                S.RUNNING,
                (A.STOP_SOAK, A.SETTLE, A.ADOPT_SUCCESSOR, A.STEER_TO_SERVING, A.REPORT_DONE),
            ),
            E.STOP: (S.STOPPING, (A.STOP_SOAK, A.TERMINATE_ALL)),
        }.items()
    },
    (S.DRAINING, E.RETIRING_EXITED): (S.RUNNING, (A.REPORT_DONE,)),
    (S.DRAINING, E.DEADLINE): (S.DRAINING, (A.KILL_RETIRING,)),
    # The upgrade is done all the same; the new process is restarted like any other, and the listener queues meanwhile.
    (S.DRAINING, E.SERVING_CRASHED): (S.BACKING_OFF, (A.REPORT_DONE,)),
    (S.DRAINING, E.SERVING_FINISHED): _STOP,
    (S.DRAINING, E.STOP): _STOP,
    # ── back to the old process ──
    (S.RETURNING, H.RETURNED): (S.ROLLING_BACK, (A.TERMINATE_SUCCESSOR,)),
    (S.RETURNING, H.FAILED): (S.ROLLING_BACK, (A.TERMINATE_SUCCESSOR,)),
    (S.RETURNING, E.DEADLINE): (S.ROLLING_BACK, (A.ABORT_HANDOVER, A.TERMINATE_SUCCESSOR)),
    (S.RETURNING, E.SERVING_CRASHED): (S.BACKING_OFF, (A.ABORT_HANDOVER, A.KILL_SUCCESSOR, A.REPORT_ABANDONED)),
    (S.RETURNING, E.SERVING_FINISHED): (S.STOPPING, (A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.RETURNING, E.STOP): (S.STOPPING, (A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.ROLLING_BACK, E.SUCCESSOR_EXITED): (S.RUNNING, (A.REPORT_ABANDONED,)),
    (S.ROLLING_BACK, E.DEADLINE): (S.ROLLING_BACK, (A.KILL_SUCCESSOR,)),
    (S.ROLLING_BACK, E.SERVING_CRASHED): (S.BACKING_OFF, (A.KILL_SUCCESSOR, A.REPORT_ABANDONED)),
    (S.ROLLING_BACK, E.SERVING_FINISHED): (S.STOPPING, (A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    (S.ROLLING_BACK, E.STOP): (S.STOPPING, (A.REPORT_ABANDONED, A.TERMINATE_ALL)),
    # ── the end ──
    (S.STOPPING, E.ALL_EXITED): (S.STOPPED, (A.EXIT,)),
    (S.STOPPING, E.DEADLINE): (S.STOPPING, (A.KILL_ALL,)),
    (S.STOPPING, E.STOP): (S.STOPPING, (A.KILL_ALL,)),  # a second signal skips the drain
}


@dataclass(frozen=True)
class Machine:
    """A state, and whether one more upgrade is queued. Several requests during one upgrade queue only one."""

    state: ServiceState = ServiceState.PENDING
    queued: bool = False

    @property
    def upgrading(self) -> bool:
        """Is an upgrade under way, so that there may be more than one process?"""
        return self.state not in (S.PENDING, S.STARTING, S.RUNNING, S.BACKING_OFF, S.STOPPING, S.STOPPED)


def advance(machine: Machine, event: Event) -> tuple[Machine, tuple[ServiceAction, ...]]:
    """The next state and its actions. An event that is not in the table for this state changes nothing."""
    row = TRANSITIONS.get((machine.state, event))
    if row is None:
        ends = machine.state in (S.PENDING, S.STOPPING, S.STOPPED)
        if event is E.UPGRADE and not ends:
            return replace(machine, queued=True), ()
        return machine, ()
    state, actions = row
    if state in (S.STOPPING, S.STOPPED):
        return Machine(state), actions
    # An upgrade asked for during a back-off reads the configuration again at once, so nothing stays queued.
    queued = machine.queued and event is not E.UPGRADE
    if state is S.RUNNING and queued:
        state, more = TRANSITIONS[S.RUNNING, E.UPGRADE]
        return Machine(state), (*actions, *more)
    return Machine(state, queued), actions
