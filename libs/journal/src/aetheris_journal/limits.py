"""Every size that is bounded on its way into a job's record, in one table.

The limits belong together: a value at its own limit must fit into an event, an event into a commit, a commit into a
frame, and a frame into a gRPC message. Each service reads its numbers here, and a test puts the largest values of all
kinds together.

    value ≤ 512 KiB ┐
    input ≤ 1 MiB   ├─► event ≤ 2 MiB − a commit's head ─► body ≤ 2 MiB ─► frame ≤ 4 MiB ─► message ≤ 16 MiB
    failure ≤ 25 KiB┘
"""

from __future__ import annotations

from dataclasses import dataclass

_KIB = 1024

# JSON that an agent gives or gets: arguments, results, states, the input of a child.
VALUE_BYTES_MAX = 512 * _KIB
# The input of a job.
INPUT_BYTES_MAX = 1024 * _KIB
# What is sent to a job: a signal, a message, the content of a token.
PAYLOAD_BYTES_MAX = 256 * _KIB
# What an approval shows to the approver, and the arguments that the approver may edit.
APPROVAL_DETAIL_BYTES_MAX = 256 * _KIB
APPROVAL_ARGUMENTS_BYTES_MAX = 128 * _KIB
# An error as it is recorded.
FAILURE_TYPE_BYTES_MAX = 1 * _KIB
FAILURE_MESSAGE_BYTES_MAX = 8 * _KIB
FAILURE_STACK_BYTES_MAX = 16 * _KIB
# The names that the ledger indexes.
TENANT_BYTES_MAX = 128
EFFECT_KEY_BYTES_MAX = 512
TOOL_NAME_BYTES_MAX = 256

# What a checkpoint carries from the rounds before it, beside the state.
CARRIED_BYTES_MAX = 1024 * _KIB

# One commit's body. Beside its events it has a head, which names the tenant and the payloads.
BODY_BYTES_MAX = 2048 * _KIB
BODY_HEAD_BYTES_MAX = 16 * _KIB
# One event, alone in its commit.
EVENT_BYTES_MAX = BODY_BYTES_MAX - BODY_HEAD_BYTES_MAX
# What a commit of several events is filled up to, and how many events it has at most.
COMMIT_BYTES_MAX = 768 * _KIB
COMMIT_EVENTS_MAX = 500
# One frame of the Journal stream.
FRAME_BYTES_MAX = 4 * 1024 * _KIB


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """One row of the table: what is bounded, by how much, and who refuses what is larger, before anything happened."""

    what: str
    most: int
    refused_by: str


LIMITS = (
    SizeLimit("value", VALUE_BYTES_MAX, "SDK"),
    SizeLimit("input", INPUT_BYTES_MAX, "gateway, scheduler"),
    SizeLimit("payload of a signal, message or token", PAYLOAD_BYTES_MAX, "gateway"),
    SizeLimit("detail of an approval", APPROVAL_DETAIL_BYTES_MAX, "SDK"),
    SizeLimit("arguments of an approval", APPROVAL_ARGUMENTS_BYTES_MAX, "SDK, gateway"),
    SizeLimit("type of a failure", FAILURE_TYPE_BYTES_MAX, "SDK, which cuts it"),
    SizeLimit("message of a failure", FAILURE_MESSAGE_BYTES_MAX, "SDK, which cuts it"),
    SizeLimit("stack of a failure", FAILURE_STACK_BYTES_MAX, "SDK, which cuts it"),
    SizeLimit("tenant", TENANT_BYTES_MAX, "gateway, scheduler"),
    SizeLimit("key of an effect", EFFECT_KEY_BYTES_MAX, "SDK"),
    SizeLimit("name of a tool", TOOL_NAME_BYTES_MAX, "SDK"),
    SizeLimit("carried over a checkpoint", CARRIED_BYTES_MAX, "engine"),
    SizeLimit("event", EVENT_BYTES_MAX, "engine"),
    SizeLimit("body of a commit", BODY_BYTES_MAX, "engine, ledger"),
    SizeLimit("frame of the Journal stream", FRAME_BYTES_MAX, "runner, ledger"),
)
