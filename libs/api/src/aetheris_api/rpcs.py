"""Every gRPC method, with the permission that it needs, or with the services that may call it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aetheris_api.permissions import PeerKind, Permission


def _methods(service: str, names: Mapping[str, Permission]) -> dict[str, Permission]:
    return {f"/{service}/{name}": permission for name, permission in names.items()}


def _peers(service: str, names: Mapping[str, set[PeerKind]]) -> dict[str, frozenset[PeerKind]]:
    return {f"/{service}/{name}": frozenset(peers) for name, peers in names.items()}


# The public API. The same verbs need the same permissions over REST: see `routes.py`.
PUBLIC_METHODS: Mapping[str, Permission] = MappingProxyType(
    _methods(
        "aetheris.gateway.v1.Gateway",
        {
            "Submit": Permission.JOBS_SUBMIT,
            "GetJob": Permission.JOBS_READ,
            "ListJobs": Permission.JOBS_READ,
            "ReadEvents": Permission.JOBS_READ,
            "WatchEvents": Permission.JOBS_READ,
            "GetTrace": Permission.JOBS_READ,
            "VerifyJob": Permission.JOBS_READ,
            "Signal": Permission.INBOX_SEND,
            "SendMessage": Permission.INBOX_SEND,
            "CancelJob": Permission.JOBS_OPERATE,
            "TerminateJob": Permission.JOBS_OPERATE,
            "PauseJob": Permission.JOBS_OPERATE,
            "ResumeJob": Permission.JOBS_OPERATE,
            "GetApproval": Permission.APPROVALS_READ,
            "ListApprovals": Permission.APPROVALS_READ,
            "Decide": Permission.APPROVALS_DECIDE,
            "ListEffects": Permission.EFFECTS_READ,
            "ResolveEffect": Permission.EFFECTS_RESOLVE,
            "CompleteToken": Permission.PUBLIC,
            "RequeueJob": Permission.JOBS_OPERATE,
            "ForkJob": Permission.JOBS_OPERATE,
            "RetryJob": Permission.JOBS_OPERATE,
            "ListStuck": Permission.JOBS_READ,
            "ListRunners": Permission.RUNNERS_READ,
            "ListDeployments": Permission.RUNNERS_READ,
        },
    )
)

_RUNNER, _GATEWAY, _OPERATOR = {PeerKind.RUNNER}, {PeerKind.GATEWAY}, {PeerKind.OPERATOR}

# Between the services. An operator's tools read, submit batches and drain, past the gateway.
PEER_METHODS: Mapping[str, frozenset[PeerKind]] = MappingProxyType(
    _peers(
        "aetheris.gateway.v1.Signals",
        {
            "Fetch": _RUNNER,
            "Settle": _RUNNER,
            "OpenApproval": _RUNNER,
            "CloseApproval": _RUNNER,
            "MintToken": _RUNNER,
        },
    )
    | _peers(
        "aetheris.scheduler.v1.Scheduler",
        {
            "Submit": _GATEWAY | _RUNNER,
            "SubmitBatch": _OPERATOR,
            "Work": _RUNNER,
            "Wake": _GATEWAY,
            "Cancel": _GATEWAY | _RUNNER,
            "Pause": _GATEWAY,
            "Resume": _GATEWAY,
            "Requeue": _GATEWAY,
            "Get": _GATEWAY | _RUNNER | _OPERATOR,
            "List": _GATEWAY | _OPERATOR,
            "ListEnded": _RUNNER,
            "Stuck": _GATEWAY,
            "Runners": _GATEWAY,
            "Terminate": _GATEWAY,
            "Deployments": _GATEWAY,
            "Drain": _OPERATOR,
            "Handover": _RUNNER,
        },
    )
    | _peers(
        "aetheris.ledger.v1.Ledger",
        {
            "Journal": _RUNNER,
            "Read": _GATEWAY | _OPERATOR,
            "Watch": _GATEWAY,
            "Verify": _GATEWAY | _OPERATOR,
            "Export": _OPERATOR,
            "ListEffects": _GATEWAY | _RUNNER,
            "ResolveEffect": _GATEWAY,
            "ReportLateOutcome": _RUNNER,
        },
    )
)
