"""The record of a job, looked up one command at a time.

To resume a job, the runner runs the agent again: each command of the agent is compared with the record at the same
path. A recorded command gets its recorded answer. Where the record ends, execution begins. If the two differ, the
agent's code is no longer the code that made the record.

    agent ── step "charge" at path "3" ──► Replay ──► recorded: give it back
                                                 ├──► nothing: the frontier, execute
                                                 └──► something else: Divergence
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from aetheris_journal import events as e
from aetheris_journal.commands import CANCEL, DEADLINE, MAP, RACE, cancelled_branch, too_large
from aetheris_journal.effect import EffectState, is_business_key
from aetheris_journal.path import ASIDE, CHANGE, COMPENSATION, branch_of, place_of
from aetheris_journal.unused import Unused
from aetheris_journal.value import same


class Divergence(Exception):
    """The code and the record differ. The message shows both as people would write them."""

    def __init__(self, path: str, recorded: str, actual: str) -> None:
        super().__init__(f"at {path}: the record has {recorded}, the code now gives {actual}")
        self.path, self.recorded, self.actual = path, recorded, actual


class Unreadable(Exception):
    """The code cannot read what the record has at `path`: a result, the job's input, or a checkpoint's state."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"at {path}: {problem}")
        self.path, self.problem = path, problem


@dataclass(frozen=True, slots=True)
class StepRecord:
    open_key: ClassVar[str] = ""

    name: str
    arguments: bytes
    result: bytes
    failure: e.Failure | None = None
    attempt: int = 1
    # With a failure: when the next attempt begins; None where this one was the last.
    retry_at: datetime | None = None
    # When the first attempt began.
    began: datetime | None = None

    def __str__(self) -> str:
        return f"step {self.name}({_shown(self.arguments)})"


@dataclass(frozen=True, slots=True)
class EffectRecord:
    name: str
    arguments: bytes
    key: str
    state: EffectState
    attempt: int
    result: bytes = b""
    # What the agent gets instead of a result. An effect that is committed has one if its result was too large.
    failure: e.Failure | None = None
    # With a failure: when the next attempt begins; None where this one was the last.
    retry_at: datetime | None = None
    # When the first attempt began.
    began: datetime | None = None
    # The tool that takes the effect back, if there is one.
    compensate: str = ""
    # If the effect is committed: its number among the job's committed effects, from 1.
    order: int = 0

    @property
    def open_key(self) -> str:
        """The key of an effect without an outcome."""
        return self.key if self.state in (EffectState.STARTED, EffectState.IN_DOUBT) else ""

    def __str__(self) -> str:
        return f"tool {self.name}({_shown(self.arguments)}) under key {self.key}"


@dataclass(frozen=True, slots=True)
class WaitRecord:
    open_key: ClassVar[str] = ""

    kind: e.WaitKind
    name: str
    deadline: datetime | None
    completed: e.WaitCompleted | None = None
    # With an approval: the recorded text of it.
    detail: bytes = b""

    def __str__(self) -> str:
        asked = f": {_shown(self.detail)}" if self.detail else ""
        return f"wait for {self.kind.name.lower()} {self.name!r}{asked}"


@dataclass(frozen=True, slots=True)
class ValueRecord:
    open_key: ClassVar[str] = ""

    kind: e.ValueKind
    value: bytes

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} value"


@dataclass(frozen=True, slots=True)
class ChildRecord:
    open_key: ClassVar[str] = ""

    agent: str
    input: bytes
    queue: str
    parent_close: str
    job_id: str = ""
    # Known to be submitted before the last checkpoint. Only its id and `parent_close` are known then.
    submitted: bool = False

    def __str__(self) -> str:
        return f"child {self.agent}({_shown(self.input)})"


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """Only for comparing and messages. A checkpoint is never in the record that its own round looks up, because the
    record begins behind it."""

    open_key: ClassVar[str] = ""

    def __str__(self) -> str:
        return "a checkpoint"


# The reserved names of the steps that say something about branches.
_MARKS = (MAP, RACE, CANCEL)

Record = StepRecord | EffectRecord | WaitRecord | ValueRecord | ChildRecord | CheckpointRecord


def _failed_step(event: e.StepFailed, began: datetime) -> StepRecord:
    return StepRecord(event.name, event.arguments, b"", event.failure, event.attempt, event.retry_at, began)


def _shown(arguments: bytes) -> str:
    text = arguments.decode("utf-8", "replace")
    return text if len(text) <= 200 else text[:200] + "…"


class Replay:
    """The record of a job, without the commands that the program has given in this run: looking a command up takes it
    out."""

    def __init__(self, events: Iterable[e.Event] = ()) -> None:
        self.created: e.JobCreated | None = None
        # The ids of children are in the job's bucket.
        self.buckets = False
        self.lease = 0
        # The version of the code that has the last lease, and the one that had recorded a command before it.
        self._leased_version = self._earlier_version = ""
        self._recorded_at_lease = 0
        self.terminal: e.Event | None = None
        # Signals that ended a wait: every later wait for the same key gets the same payload.
        self.signals: dict[str, e.WaitCompleted] = {}
        self.consumed: set[str] = set()
        # How many checkpoints the agent has saved.
        self.round = 0
        # The state that the last checkpoint saved; None before the first.
        self.state: bytes | None = None
        # Children that were started and whose end is not recorded, by their job ids.
        self.children: dict[str, ChildRecord] = {}
        # The recorded ends of the other children.
        self.child_ends: dict[str, e.ChildCompleted] = {}
        # The paths of the approvals that are neither decided nor expired.
        self.open_approvals: set[str] = set()
        # Effects of this job that can be taken back. A lookup leaves them here.
        self.undoable: dict[str, EffectRecord] = {}
        # The paths of those whose compensation has begun, and of those that were taken back or abandoned.
        self.compensating: set[str] = set()
        self.compensated: set[str] = set()
        # The prefixes of the branches that were cancelled after they had been started.
        self.cancelled_branches: set[str] = set()
        # How many effects have been committed.
        self.outcomes = 0
        # The job is a fork: its record begins with copies of another job's.
        self.forked = False
        # The recorded commands that the program has not given yet.
        self.unused: Unused[Record] = Unused()
        # Whether a command at that path is in a cancelled scope. The settler that knows the scopes sets it.
        self.cancelled: Callable[[str], bool] = lambda path: False
        for event in events:
            self.add(event)

    def step(self, path: str, name: str, arguments: bytes) -> StepRecord | None:
        record = self.unused.take(path)
        if record is None:
            if self.unused.constrains:
                self._check_frontier(path, StepRecord(name, arguments, b""))
            return None
        if (
            not isinstance(record, StepRecord)
            or record.name != name
            or (record.arguments != arguments and not same(record.arguments, arguments))
        ):
            raise Divergence(path, str(record), str(StepRecord(name, arguments, b"")))
        return record

    def passed(self, path: str) -> bool:
        """Whether the record was made by code that came past this place."""
        return self.unused.passed(path, self.cancelled)

    def marked(self, path: str, name: str) -> bool:
        """Whether the record has the step of that reserved name at the path of a parallel block."""
        record = self.unused.get(path)
        return isinstance(record, StepRecord) and record.name == name

    def effect(self, path: str, name: str, arguments: bytes, key: str) -> EffectRecord | None:
        actual = EffectRecord(name, arguments, key, EffectState.STARTED, 1)
        record = self._take(path, actual)
        if record is None:
            return None
        if (
            isinstance(record, StepRecord)
            and record.failure is not None
            and record.name == name
            and same(record.arguments, arguments)
        ):
            # The ledger refused the key, so the call has no intent: it was recorded as a failed step.
            return replace(actual, state=EffectState.FAILED, failure=record.failure)
        if (
            not isinstance(record, EffectRecord)
            or record.name != name
            or not same(record.arguments, arguments)
            # A key without a business key is made of the arguments. If those were written in another order, it differs.
            or (record.key != key and (record.arguments == arguments or is_business_key(key)))
        ):
            raise Divergence(path, str(record), str(actual))
        # The approval that the fork asked for before this call was decided, so its record is used up too.
        self.unused.take(ASIDE + path)
        return record

    def wait(self, path: str, kind: e.WaitKind, name: str, detail: bytes = b"") -> WaitRecord | None:
        """The record of a wait. An approval's verdict holds only for the text that the approvers saw, so a different
        `detail` is a divergence."""
        actual = WaitRecord(kind, name, None, detail=detail)
        record = self._take(path, actual)
        if record is None:
            return None
        if not isinstance(record, WaitRecord) or (record.kind, record.name, record.detail) != (kind, name, detail):
            raise Divergence(path, str(record), str(actual))
        return record

    def value(self, path: str, kind: e.ValueKind) -> ValueRecord | None:
        actual = ValueRecord(kind, b"")
        record = self._take(path, actual)
        if record is None:
            return None
        if not isinstance(record, ValueRecord) or record.kind is not kind:
            raise Divergence(path, str(record), str(actual))
        return record

    def child(self, path: str, agent: str, given: bytes, queue: str, parent_close: str) -> ChildRecord | None:
        actual = ChildRecord(agent, given, queue, parent_close)
        # A fork does not copy children that had not ended at its cut: it starts its own, before commands that it has.
        record = self.unused.take(path) if self.forked else self._take(path, actual)
        if record is None:
            return None
        if (
            not isinstance(record, ChildRecord)
            or (record.agent, record.queue, record.parent_close) != (agent, queue, parent_close)
            or not same(record.input, given)
        ):
            raise Divergence(path, str(record), str(actual))
        return record

    def checkpoint(self, path: str) -> None:
        """Check that the agent may save a checkpoint here: no command of this round's record may be left."""
        record = self._take(path, CheckpointRecord())
        if record is not None:
            raise Divergence(path, str(record), str(CheckpointRecord()))
        for later, left in self._owed():
            raise Divergence(later, str(left), f"{CheckpointRecord()} at {path}")

    def begin_again(self, saved: e.CheckpointSaved) -> None:
        """Forget the record before the checkpoint, except for the state that it carries on."""
        carried = json.loads(saved.carried or b"{}")
        self.state, self.round = saved.state, carried.get("round", self.round + 1)
        self._leased_version = carried.get("version", self._leased_version)
        self.consumed = set(carried.get("notes", ()))
        self.buckets = self.buckets or carried.get("buckets", False)
        self.children = {
            told["job_id"]: ChildRecord(
                told["agent"], told["input"].encode(), told["queue"], told["parent_close"], told["job_id"]
            )
            for told in carried.get("children", ())
        }
        for parent_close, job_ids in carried.get("submitted", {}).items():
            for job_id in job_ids:
                self.children[job_id] = ChildRecord("", b"", "", parent_close, job_id, submitted=True)
        self.outcomes = 0
        for known in (
            self.unused, self.signals, self.child_ends, self.open_approvals, self.undoable, self.compensating,
            self.compensated, self.cancelled_branches,
        ):  # fmt: skip
            known.clear()
        self.unused.recorded += 1

    def carried(self, notes: Iterable[str], version: str = "") -> bytes:
        """The state that a checkpoint saved now carries on: the round, the version of the code (its lease is recorded
        before the checkpoint), the inbox entries (`notes`, a stored name) that the inbox may deliver again, and the
        open children. All of these are submitted by now, so their ids are enough.
        """
        submitted: dict[str, list[str]] = {}
        for child in self.children.values():
            submitted.setdefault(child.parent_close, []).append(child.job_id)
        told = {
            "round": self.round + 1,
            "version": version,
            "notes": sorted(notes),
            "submitted": submitted,
            "buckets": self.buckets,
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()

    def child_started(self, started: e.ChildStarted) -> ChildRecord:
        record = ChildRecord(started.agent, started.input, started.queue, started.parent_close, started.child_job_id)
        if record.job_id not in self.child_ends:
            self.children[record.job_id] = record
        return record

    def child_completed(self, completed: e.ChildCompleted) -> None:
        self.child_ends[completed.child_job_id] = completed
        self.children.pop(completed.child_job_id, None)

    @property
    def version(self) -> str:
        """The version of the code that recorded the last command; empty where none is recorded, or none is known."""
        return self._leased_version if self.unused.recorded > self._recorded_at_lease else self._earlier_version

    def finish(self) -> None:
        """Check the record when the agent has returned: a command that is left is one that the code does not give any
        more."""
        for path, record in self._owed():
            raise Divergence(path, str(record), "the end of the agent")

    def fail(self, error: str) -> None:
        """Check the record when the agent has raised an error. Compensations may be left: they follow."""
        first = self.unused.first
        if first is not None:
            raise Divergence(first, str(self.unused.get(first)), error)

    def _owed(self) -> Iterator[tuple[str, Record]]:
        """What the code has to give before the record is used up. It need not ask for changes any more."""
        return ((path, record) for path, record in self.unused.items() if path[:1] != CHANGE)

    def _take(self, path: str, actual: Record) -> Record | None:
        record = self.unused.take(path)
        if record is None and self.unused.constrains:
            self._check_frontier(path, actual)
        return record

    def _check_frontier(self, path: str, actual: Record) -> None:
        """Raise Divergence unless a command that the record does not have may run at `path`."""
        against = self.unused.against(path, self.cancelled)
        if against is None:
            return
        place, record = against
        if record is None:
            raise Divergence(path, f"the end of the block at {place}", str(actual))
        if branch_of(place) == branch_of(path) and place_of(place) > place_of(path):
            raise Divergence(place, str(record), f"{actual} before it")
        raise Divergence(place, str(record), f"{actual} at {path}")

    def add(self, event: e.Event) -> None:
        """Add the next event of the record."""
        match event:
            case e.JobCreated():
                self.created, self.forked = event, self.forked or bool(event.forked_from_job_id)
                self.buckets = event.buckets
            case e.JobLeased():
                self._leased(event)
            case e.StepCommitted(path=path, name=name):
                self.unused.put(path, StepRecord(name, event.arguments, event.result))
                if name in _MARKS:
                    self._mark(path, name, event.arguments)
            case e.StepFailed(path=path):
                began = self._began(path, event.at - event.elapsed)
                self.unused.put(path, _failed_step(event, began))
            case e.EffectStarted(path=path):
                begun = EffectRecord(
                    event.name, event.arguments, event.key, EffectState.STARTED, event.attempt,
                    began=self._began(path, event.at), compensate=event.compensate,
                )  # fmt: skip
                self._put_effect(path, begun)
            case e.EffectCommitted(path=path, recorded_job_id=str(other)) if other:
                reused = EffectRecord(
                    event.name, event.arguments, event.key, EffectState.COMMITTED, event.attempt, event.result,
                    too_large(event.name, event.result) if event.too_large else None,
                )  # fmt: skip
                self.unused.put(path, reused)
            case e.EffectCommitted(path=path):
                failure = too_large(self._tool_at(path), event.result) if event.too_large else None
                self._change(path, state=EffectState.COMMITTED, result=event.result, failure=failure)
            case e.EffectFailed(path=path):
                self._change(path, state=EffectState.FAILED, failure=event.failure, retry_at=event.retry_at)
            case e.EffectInDoubt(path=path):
                self._change(path, state=EffectState.IN_DOUBT)
            case e.EffectResolved(path=path):
                state = EffectState[event.verdict.name]
                self._change(path, state=state, result=event.result)
                if state is EffectState.ABANDONED and path.startswith(COMPENSATION):
                    self._undone(path.removeprefix(COMPENSATION))
            case e.CompensationStarted(path=path):
                self.compensating.add(path)
            case e.StepCompensated(path=path):
                self._undone(path)
            case e.JobWaiting(path=path) if path:
                self.unused.put(path, WaitRecord(event.kind, event.name, event.deadline, detail=event.detail))
                if event.kind is e.WaitKind.APPROVAL:
                    self.open_approvals.add(path)
            case e.WaitCompleted(path=path):
                self._complete(path, event)
            case e.ChildStarted(path=path):
                self.unused.put(path, self.child_started(event))
            case e.ChildCompleted():
                self.child_completed(event)
            case e.CheckpointSaved():
                self.begin_again(event)
            case e.ValueRecorded(path=path):
                self.unused.put(path, ValueRecord(event.kind, event.value))
            case e.JobCompleted() | e.JobFailed() | e.JobCancelled():
                self.terminal = event

    def _leased(self, event: e.JobLeased) -> None:
        self._earlier_version = self.version
        self._recorded_at_lease = self.unused.recorded
        self.lease, self._leased_version = event.lease, event.code_version

    def _mark(self, path: str, name: str, arguments: bytes) -> None:
        if name != CANCEL:
            self.unused.end_block(path)
        elif (prefix := cancelled_branch(name, arguments)) is not None:
            self.cancelled_branches.add(prefix)

    def _began(self, path: str, now: datetime) -> datetime:
        """When the first attempt at `path` began: recorded before, or now if this is the first."""
        record = self.unused.get(path)
        began = record.began if isinstance(record, StepRecord | EffectRecord) else None
        return began or now

    def _change(
        self,
        path: str,
        *,
        state: EffectState,
        result: bytes = b"",
        failure: e.Failure | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        record = self.unused.get(path)
        if not isinstance(record, EffectRecord):
            raise ValueError(f"the record has an effect's outcome at {path}, where it has {record}")
        order = 0
        if state is EffectState.COMMITTED:
            order = self.outcomes = self.outcomes + 1
        changed = replace(record, state=state, result=result, failure=failure, retry_at=retry_at, order=order)
        self._put_effect(path, changed)

    def _tool_at(self, path: str) -> str:
        record = self.unused.get(path)
        return record.name if isinstance(record, EffectRecord) else ""

    def _undone(self, path: str) -> None:
        """Note that the effect was taken back or abandoned. The call that did it is no command of the program, so its
        record is used up."""
        self.compensated.add(path)
        self.unused.take(COMPENSATION + path)

    def _put_effect(self, path: str, record: EffectRecord) -> None:
        self.unused.put(path, record)
        if record.compensate:
            self.undoable[path] = record

    def _complete(self, path: str, event: e.WaitCompleted) -> None:
        record = self.unused.get(path)
        if not isinstance(record, WaitRecord):
            raise ValueError(f"the record has the end of a wait at {path}, where it has {record}")
        self.unused.put(path, replace(record, completed=event))
        if record.kind is e.WaitKind.TIMER and record.name == DEADLINE and not event.timed_out:
            self.unused.end_block(path)
        self.open_approvals.discard(path)
        if event.source_id:
            self.consumed.add(event.source_id)
        if record.kind is e.WaitKind.SIGNAL and not event.timed_out:
            self.signals.setdefault(record.name, event)
