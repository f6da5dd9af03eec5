"""One side effect, from its intent to its outcome.

    intent durable ──► the tool is entered ──► outcome recorded
         │                     └── lost, or an error that vouches for nothing ──► in doubt
         └── refused: another job has it (a business key) ──► its result, or later again

The permission to act is the ledger's answer to the intent and nothing else. A doubt has the ways out
of `core.effect.way_out`, the surest first; where none is left, the job parks until a person says.
"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import Any

from aetheris.context import current
from aetheris.definitions import ToolDefinition
from aetheris.driving.failures import EXITS, described, revived
from aetheris.errors import EffectAbandoned, Unchanged, ValueRefused
from aetheris.outcomes import DidNotHappen, Effect, Happened, Unknown, effect_in_hand
from aetheris_journal import events as e
from aetheris_journal.effect import STATE_OF_VERDICT, State
from aetheris_journal.replay import EffectRecord

from aetheris_runner import metrics
from aetheris_runner.core.effect import AskPerson, AskWorld, CallAgain, TakeNote, way_out
from aetheris_runner.core.waits import Wait
from aetheris_runner.ports import Answer, Decision
from aetheris_runner.stage import Stage

# How often an idempotent tool is entered before a person is asked.
ATTEMPTS_MAX = 8

# How long to leave an effect alone that another job is making, at first and at most.
_LATER_S, _LATER_MAX_S = 0.25, 10.0


class EffectCall:
    """A tool call of an agent. `settle` returns the tool's result, or raises what the agent shall see."""

    def __init__(
        self, stage: Stage, path: str, tool: ToolDefinition[Any], arguments: dict[str, Any], given: bytes, key: str
    ) -> None:
        self._stage, self._path, self._tool = stage, path, tool
        self._arguments, self._given, self._key = arguments, given, key
        self._unchanged: tuple[type[Exception], ...] = (Unchanged, *tool.unchanged)
        self._attempt = 0
        self._raised = False

    async def settle(self, record: EffectRecord | None) -> Any:
        state: State | None = None
        result = b""
        if record is not None:
            metrics.REPLAYED.inc()
            state, result, self._attempt = record.state, record.result, record.attempt
            if state is State.FAILED and record.failure is not None:
                raise revived(record.failure)
            if state is State.STARTED:
                await self._doubt("its holder was lost before the outcome was recorded")
                state = State.IN_DOUBT
        while True:
            match state:
                case None | State.NOT_EXECUTED:
                    state, result = await self._act()
                case State.IN_DOUBT:
                    state, result = await self._resolve()
                case State.ABANDONED:
                    raise EffectAbandoned(f"nobody knows whether {self._tool.name} happened, and it was given up on")
                case _:
                    return self._tool.signature.result.read(result)

    async def _act(self) -> tuple[State, bytes]:
        """Ask for the permission; with it, enter the tool."""
        stage, tool = self._stage, self._tool
        later = _LATER_S
        while True:
            if stage.gated:
                await stage.gate()
            answer = await self._permission()
            match answer.decision:
                case Decision.APPENDED:
                    self._attempt += 1
                    return await self._enter()
                case Decision.RECORDED:
                    stage.scribe.record(
                        e.EffectCommitted(
                            self._path, self._key, answer.result, 1, timedelta(0),
                            answer.holder_job_id, tool.name, self._given, at=stage.now(),
                        ),
                        value_bytes=len(answer.result) + len(self._given),
                    )  # fmt: skip
                    metrics.EFFECTS.labels("recorded").inc()
                    return State.COMMITTED, answer.result
            deadline = stage.now() + timedelta(seconds=later)
            reason = f"{self._key} is {answer.decision.name.lower()} in job {answer.holder_job_id}"
            await stage.wait(Wait(self._path, e.WaitKind.RETRY, reason, deadline))
            later = min(later * 2, _LATER_MAX_S)

    async def _permission(self) -> Answer:
        started = e.EffectStarted(
            self._path, self._tool.name, self._given, self._key, self._attempt + 1, at=self._stage.now()
        )
        return await self._stage.scribe.intend(started, len(self._given))

    async def _enter(self) -> tuple[State, bytes]:
        stage, tool = self._stage, self._tool
        began = monotonic()
        stage.tool_opened()
        try:
            result = tool.signature.result.write(await self._inside())
        except self._unchanged as error:
            failure = described(error)
            elapsed = timedelta(seconds=monotonic() - began)
            stage.scribe.record(e.EffectFailed(self._path, self._key, failure, self._attempt, elapsed, at=stage.now()))
            metrics.EFFECTS.labels("failed").inc()
            raise revived(failure) from error
        except ValueRefused as error:
            await self._doubt(f"it returned, but {error}")
            return State.IN_DOUBT, b""
        except (Exception, *EXITS) as error:
            self._raised = True
            await self._doubt(f"it raised {type(error).__name__}: {error}")
            return State.IN_DOUBT, b""
        finally:
            stage.tool_closed()
        elapsed = timedelta(seconds=monotonic() - began)
        stage.scribe.record(
            e.EffectCommitted(self._path, self._key, result, self._attempt, elapsed, at=stage.now()),
            len(result),
        )
        metrics.EFFECTS.labels("committed").inc()
        return State.COMMITTED, result

    async def _inside(self) -> Any:
        """The tool's own code, which may ask for its key and its lease."""
        outside = current.set(None)
        effect = Effect(self._key, self._stage.assignment.lease, self._attempt, str(self._stage.job_id))
        entered = effect_in_hand.set(effect)
        try:
            return await self._tool.call(self._arguments, idempotency_key=self._key)
        finally:
            effect_in_hand.reset(entered)
            current.reset(outside)

    async def _doubt(self, reason: str) -> None:
        """Say that nobody knows, so that everybody can see it while the way out is looked for."""
        stage = self._stage
        ticket = stage.scribe.record(e.EffectInDoubt(self._path, self._key, reason[:1_024], at=stage.now()))
        metrics.EFFECTS.labels("in_doubt").inc()
        await stage.scribe.durable(ticket)

    async def _resolve(self) -> tuple[State, bytes]:
        stage, tool = self._stage, self._tool
        can_verify = tool.verify is not None
        while True:
            note = await stage.hands.journal.note(stage.assignment.tenant, stage.job_id, self._key)
            match way_out(
                note,
                can_verify=can_verify,
                idempotent=tool.idempotent,
                attempt=self._attempt,
                attempts_max=ATTEMPTS_MAX,
            ):
                case TakeNote(note=said):
                    return self._resolved(said.verdict, said.source, said.result, said.actor, said.text)
                case AskWorld():
                    answer = await self._ask_world()
                    match answer:
                        case Happened(result=result):
                            written = tool.signature.result.write(result)
                            return self._resolved(e.Verdict.COMMITTED, e.Source.VERIFY, written)
                        case DidNotHappen():
                            return self._resolved(e.Verdict.NOT_EXECUTED, e.Source.VERIFY)
                    can_verify = False
                case CallAgain():
                    if self._raised:
                        pause = min(_LATER_S * 2**self._attempt, _LATER_MAX_S)
                        deadline = stage.now() + timedelta(seconds=pause)
                        await stage.wait(Wait(self._path, e.WaitKind.RETRY, f"retry: {tool.name}", deadline))
                    return State.NOT_EXECUTED, b""
                case AskPerson():
                    await stage.wait(Wait(self._path, e.WaitKind.OPERATOR, f"in doubt: {tool.name}", None))
                    can_verify = tool.verify is not None

    async def _ask_world(self) -> Any:
        assert self._tool.verify is not None
        outside = current.set(None)
        try:
            return await self._tool.verify.ask(self._arguments, self._key)
        except (Exception, *EXITS) as error:
            return Unknown(f"{type(error).__name__}: {error}")
        finally:
            current.reset(outside)

    def _resolved(
        self, verdict: e.Verdict, source: e.Source, result: bytes = b"", actor: str = "", note: str = ""
    ) -> tuple[State, bytes]:
        self._stage.scribe.record(
            e.EffectResolved(self._path, self._key, verdict, source, result, actor, note, at=self._stage.now()),
            len(result),
        )
        metrics.EFFECTS.labels("resolved").inc()
        return STATE_OF_VERDICT[verdict], result
