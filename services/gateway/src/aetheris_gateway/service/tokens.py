"""Tokens: made for a job that gives them away, and completed by whoever holds one.

What a token says is a signal of its job, so it is accepted once, by the row that stands for it.
"""

from __future__ import annotations

from aetheris_journal.codec import from_timestamp
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Invalid, JobFinished
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway.core import intake, token
from aetheris_gateway.core.token import Grant
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import TOKENS
from aetheris_gateway.service.inbox import InboxService
from aetheris_gateway.service.jobs import moment_of
from aetheris_gateway.store.inbox import Accepted, EntryDraft, EntryKind, InboxStore
from aetheris_gateway.store.tokens import TokenKeys

# Who says it, as far as anybody knows.
ACTOR = "token"


class TokenUsed(Conflict):
    reason = "TOKEN_USED"


class TokenExpired(Conflict):
    reason = "TOKEN_EXPIRED"


class TokenService:
    def __init__(self, keys: TokenKeys, store: InboxStore, inbox: InboxService, clock: Clock) -> None:
        self._keys = keys
        self._store = store
        self._inbox = inbox
        self._clock = clock

    async def mint(self, request: signals_pb.MintTokenRequest) -> signals_pb.MintTokenResponse:
        grant = Grant(
            intake.name(request.tenant, "tenant"),
            parse_job_id(request.job_id),
            intake.key(request.key, "key"),
            from_timestamp(moment_of(request.deadline)) if request.HasField("deadline") else None,
        )
        minted = token.mint(grant, *await self._keys.signing())
        TOKENS.labels("minted").inc()
        return signals_pb.MintTokenResponse(token=minted)

    async def complete(self, request: pb.CompleteTokenRequest) -> pb.CompleteTokenResponse:
        """No caller is asked for: the token is the permission."""
        if len(request.token) > intake.TOKEN_CHARS_MAX:
            raise Invalid("no token is that long", field="token")
        match request.WhichOneof("what"):
            case "error":
                said = intake.dump({"error": _error(request.error)})
            case _:
                said = b'{"payload":%b}' % intake.payload(request.payload)
        try:
            grant = token.read(request.token, await self._keys.all())
            accepted = await self._say(grant, said)
        except Exception:
            TOKENS.labels("refused").inc()
            raise
        TOKENS.labels("completed" if accepted.created else "repeated").inc()
        return pb.CompleteTokenResponse(job_id=str(grant.job_id), created=accepted.created)

    async def _say(self, grant: Grant, said: bytes) -> Accepted:
        draft = EntryDraft(
            note_id=self._clock.new_id(),
            tenant=grant.tenant,
            job_id=grant.job_id,
            kind=EntryKind.SIGNAL,
            name=grant.name,
            message_id=None,
            payload=said,
            actor=ACTOR,
        )
        standing = await self._store.standing(draft)
        if standing is None:
            if grant.deadline is not None and grant.deadline <= self._clock.now():
                raise TokenExpired("the token's time is over", expired_at=grant.deadline.isoformat())
            try:
                accepted = await self._inbox.say(Caller(grant.tenant, ACTOR), draft)
            except JobFinished:
                raise JobFinished("the job that gave this token away has ended", job_id=str(grant.job_id)) from None
            if accepted.created:
                return accepted
            standing = accepted.note_id
        # Another was first. Whether it said the same is for its bytes to show: a repetition sends the same.
        if await self._store.payload(standing) != said:
            raise TokenUsed("the token has said something else already", job_id=str(grant.job_id))
        return Accepted(standing, False)


def _error(text: str) -> str:
    if not text:
        raise Invalid("say what went wrong: the error is empty", field="error")
    return intake.sentence(text, "error")
