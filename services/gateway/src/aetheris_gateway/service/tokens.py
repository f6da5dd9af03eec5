"""Tokens: made for a job that gives them away, and used once by their owner.

The content that the owner sends becomes a signal of the job, so the inbox accepts it once.
"""

from __future__ import annotations

from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, JobFinished
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway import convert
from aetheris_gateway.core import intake, token
from aetheris_gateway.core.requests import NewTokenContent
from aetheris_gateway.core.token import Grant
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import TOKENS
from aetheris_gateway.service.inbox import InboxService
from aetheris_gateway.store.inbox import Accepted, EntryDraft, EntryKind, InboxStore
from aetheris_gateway.store.tokens import TokenKeys

# The name under which the content goes on record: the gateway does not know the token's owner.
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
            convert.moment(request.deadline) if request.HasField("deadline") else None,
        )
        minted = token.mint(grant, *await self._keys.signing())
        TOKENS.labels("minted").inc()
        return signals_pb.MintTokenResponse(token=minted)

    async def complete(self, new: NewTokenContent) -> tuple[UUID, bool]:
        """The job that gets the content, and whether this call was the first to send it. There is no caller to check:
        the token is the permission."""
        try:
            grant = token.read(new.token, await self._keys.all())
            accepted = await self._accept(grant, new.content.raw)
        except Exception:
            TOKENS.labels("refused").inc()
            raise
        TOKENS.labels("completed" if accepted.created else "repeated").inc()
        return grant.job_id, accepted.created

    async def _accept(self, grant: Grant, content: bytes) -> Accepted:
        draft = EntryDraft(
            entry_id=self._clock.new_id(),
            tenant=grant.tenant,
            job_id=grant.job_id,
            kind=EntryKind.SIGNAL,
            name=grant.name,
            message_id=None,
            payload=content,
            actor=ACTOR,
        )
        standing = await self._store.standing(draft)
        if standing is None:
            if grant.deadline is not None and grant.deadline <= self._clock.now():
                raise TokenExpired("the token has expired", expired_at=grant.deadline.isoformat())
            try:
                accepted = await self._inbox.accept(Caller(grant.tenant, ACTOR), draft)
            except JobFinished:
                raise JobFinished("the job that gave this token away has ended", job_id=str(grant.job_id)) from None
            if accepted.created:
                return accepted
            standing = accepted.entry_id
        # The token was used before. A client that repeats its own request sends the same bytes.
        if await self._store.payload(standing) != content:
            raise TokenUsed("the token has been used with other content already", job_id=str(grant.job_id))
        return Accepted(standing, False)
