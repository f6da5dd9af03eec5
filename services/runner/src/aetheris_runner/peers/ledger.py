"""The ledger, as a runner calls it: one stream for appends and for questions about the record.

A frame carries all that queued while the last frame was being sent, as far as it fits: each message's size is known
before it is added. What has no answer when a stream is lost is sent again on the next one. The ledger recognises a
repeated append and answers it like the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import grpc
import structlog
from aetheris_chassis.streams import converse
from aetheris_engine.ports import Stretch
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.effect import EffectResolution
from aetheris_journal.events import Resolution, Source
from aetheris_journal.limits import FRAME_BYTES_MAX
from aetheris_journal.sealed import BODY_FORMAT
from aetheris_kernel.errors import ChainBroken, Conflict, Refusal, Unavailable
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc as rpc

log = structlog.get_logger()

# How many effects one question for resolutions names. The ledger takes no more.
FIND_KEYS_MAX = 1_000
_RECONNECT_S, _RECONNECT_MAX_S = 0.05, 0.5
_UNAVAILABLE_PAUSE_S = 0.1
# What a message costs in a frame beside its own bytes: its tag and its length.
_FIELD_BYTES = 8


@dataclass(slots=True)
class _Sent:
    """An append that waits for its answer."""

    message: pb.Append
    size: int
    answer: asyncio.Future[Answer]


@dataclass(slots=True)
class _Loading:
    message: pb.Load
    chain: asyncio.Future[Stretch]
    parent: bytes = GENESIS
    job_key: bytes = b""
    commits: list[Commit] = field(default_factory=list)


@dataclass(slots=True)
class _Finding:
    message: pb.FindResolutions
    answer: asyncio.Future[Mapping[str, EffectResolution]]
    found: dict[str, EffectResolution] = field(default_factory=dict)


class LedgerJournal:
    """`ports.Journal` over gRPC. `run` keeps the stream open."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # A ledger says at the beginning of a stream which format it wants. Until then format 1 is right with all.
        self.body_format = 1
        self._stub = rpc.LedgerStub(channel)
        self._number = 0
        self._answers = 0
        self._appends: dict[int, _Sent] = {}
        self._loads: dict[int, _Loading] = {}
        self._finds: dict[int, _Finding] = {}
        self._queue: list[int] = []
        self._queued = asyncio.Event()

    def append(self, append: Append) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._number += 1
        message = _to_append(self._number, append)
        size = message.ByteSize() + _FIELD_BYTES
        if size > FRAME_BYTES_MAX:
            # It would end the stream for every other job, and again on each next stream.
            problem = f"an append has at most {FRAME_BYTES_MAX} bytes, not {size}"
            answer.set_result(Answer(AppendOutcome.REFUSED, message=problem))
            return answer
        self._appends[self._number] = _Sent(message, size, answer)
        self._enqueue(self._number)
        return answer

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        return (await self._load(pb.Load(job_id=str(job_id)))).commits

    async def load_last(self, job_id: UUID) -> Stretch:
        return await self._load(pb.Load(job_id=str(job_id), from_checkpoint=True))

    async def _load(self, message: pb.Load) -> Stretch:
        self._number += 1
        number = message.id = self._number
        chain: asyncio.Future[Stretch] = asyncio.get_running_loop().create_future()
        self._loads[number] = _Loading(message, chain)
        self._enqueue(number)
        try:
            return await chain
        finally:
            self._loads.pop(number, None)

    async def resolutions(self, tenant: str, job_id: UUID, keys: Sequence[str]) -> Mapping[str, EffectResolution]:
        found: dict[str, EffectResolution] = {}
        for start in range(0, len(keys), FIND_KEYS_MAX):
            some = keys[start : start + FIND_KEYS_MAX]
            found |= await self._find(pb.FindResolutions(tenant=tenant, job_id=str(job_id), keys=some))
        return found

    async def _find(self, message: pb.FindResolutions) -> Mapping[str, EffectResolution]:
        self._number += 1
        number = message.id = self._number
        answer: asyncio.Future[Mapping[str, EffectResolution]] = asyncio.get_running_loop().create_future()
        self._finds[number] = _Finding(message, answer)
        self._enqueue(number)
        try:
            return await answer
        finally:
            self._finds.pop(number, None)

    async def run(self) -> None:
        pause = _RECONNECT_S
        while True:
            # Send every unanswered append again, in the order of the first sending.
            self._queue = sorted([*self._appends, *self._loads, *self._finds])
            for loading in self._loads.values():
                loading.commits.clear()
                loading.parent = GENESIS
            for finding in self._finds.values():
                finding.found.clear()
            if self._queue:
                self._queued.set()
            answers = self._answers
            call = self._stub.Journal()
            asking = asyncio.get_running_loop().create_task(self._ask_format(call))
            try:
                end = await converse(call, self._next_frame, self._answered)
            finally:
                asking.cancel()
            unanswered = len(self._appends) + len(self._loads) + len(self._finds)
            log.warning("journal lost", error=end.message if end else "goodbye", unanswered=unanswered)
            pause = _RECONNECT_S if self._answers > answers else min(pause * 2, _RECONNECT_MAX_S)
            await asyncio.sleep(pause)

    async def _ask_format(self, call: Any) -> None:
        try:
            said = dict(await call.initial_metadata() or ())
        except grpc.aio.AioRpcError:
            # The stream ended first; `converse` says how.
            return
        self.body_format = int(said.get(BODY_FORMAT, 1))

    def _enqueue(self, number: int) -> None:
        self._queue.append(number)
        self._queued.set()

    async def _next_frame(self) -> pb.JournalRequest:
        await self._queued.wait()
        frame = pb.JournalRequest()
        size = taken = 0
        for number in self._queue:
            if (sent := self._appends.get(number)) is not None:
                size += sent.size
                if size > FRAME_BYTES_MAX:
                    break
                frame.appends.append(sent.message)
            elif (loading := self._loads.get(number)) is not None:
                size += loading.message.ByteSize() + _FIELD_BYTES
                if size > FRAME_BYTES_MAX:
                    break
                frame.loads.append(loading.message)
            elif (finding := self._finds.get(number)) is not None:
                size += finding.message.ByteSize() + _FIELD_BYTES
                if size > FRAME_BYTES_MAX:
                    break
                frame.finds.append(finding.message)
            taken += 1
        del self._queue[:taken]
        if not self._queue:
            self._queued.clear()
        return frame

    def _answered(self, response: pb.JournalResponse) -> None:
        self._answers += 1
        for appended in response.appended:
            if appended.decision == pb.Appended.DECISION_UNAVAILABLE:
                asyncio.get_running_loop().call_later(_UNAVAILABLE_PAUSE_S, self._again, appended.id)
                continue
            sent = self._appends.pop(appended.id, None)
            if sent is not None and not sent.answer.done():
                sent.answer.set_result(_from_appended(appended))
        for loaded in response.loaded:
            loading = self._loads.get(loaded.id)
            if loading is None or loading.chain.done():
                continue
            loading.commits.extend(map(_from_commit, loaded.commits))
            loading.parent = loaded.parent or loading.parent
            loading.job_key = loaded.job_key or loading.job_key
            if loaded.message:
                loading.chain.set_exception(_refusal(loaded))
            elif loaded.complete:
                loading.chain.set_result(Stretch(loading.commits, loading.parent, loading.job_key))
        for found in response.found:
            self._heard(found)

    def _heard(self, found: pb.FoundResolutions) -> None:
        finding = self._finds.get(found.id)
        if finding is None or finding.answer.done():
            return
        if found.message:
            refusal = _refusal(found)
            if isinstance(refusal, Unavailable):
                finding.found.clear()
                asyncio.get_running_loop().call_later(_UNAVAILABLE_PAUSE_S, self._again, found.id)
            else:
                finding.answer.set_exception(refusal)
            return
        finding.found.update((each.key, _to_resolution(each.note)) for each in found.resolutions)
        if found.complete:
            finding.answer.set_result(finding.found)

    def _again(self, number: int) -> None:
        if number in self._appends or number in self._finds:
            self._enqueue(number)


def _to_append(number: int, append: Append) -> pb.Append:
    return pb.Append(
        id=number,
        job_id=str(append.job_id),
        tenant=append.tenant,
        seq=append.seq,
        parent=append.parent,
        lease=append.lease,
        body=b"" if append.job_key else append.body,
        sealed_body=append.body if append.job_key else b"",
        job_key=append.job_key,
        new_job_key=append.new_job_key,
        checkpoint=append.checkpoint,
        terminal=append.terminal,
        effects=[
            pb.EffectChange(
                key=change.key,
                tool=change.tool,
                arguments_digest=change.arguments_digest,
                state=int(change.state),  # type: ignore[arg-type]
                result_digest=change.result_digest,
            )
            for change in append.changes
        ],
    )


def _refusal(answer: pb.Loaded | pb.FoundResolutions) -> Refusal:
    match answer.reason:
        case "CHAIN_BROKEN":
            return ChainBroken(answer.message)
        case "" | "UNAVAILABLE":
            # A ledger of an earlier version gives no reason.
            return Unavailable(answer.message)
        case _:
            return Conflict(answer.message)


def _from_appended(appended: pb.Appended) -> Answer:
    try:
        outcome = AppendOutcome(appended.decision)
    except ValueError as error:
        raise Conflict(f"the ledger answers {appended.decision}, which this runner does not know") from error
    return Answer(
        outcome,
        hash=appended.hash,
        result=appended.result,
        key=appended.key,
        holder_job_id=appended.holder_job_id,
        message=appended.message,
    )


def _from_commit(commit: pb.Commit) -> Commit:
    time_us = commit.record_time.seconds * 1_000_000 + commit.record_time.nanos // 1_000
    return Commit(commit.seq, commit.lease, time_us, commit.hash, commit.body, commit.key)


def _to_resolution(note: pb.EffectNote) -> EffectResolution:
    return EffectResolution(Resolution(note.verdict), Source(note.source), note.result, note.actor, note.text)
