"""Both tables, whole, and the way back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aetheris_chassis.status import GRPC, HTTP, grpc_status, http_status, is_away, refusal_from
from aetheris_kernel.errors import KINDS, Conflict, Forbidden, JobFinished, NotFound, Refusal, Stale, Unavailable


def ended_with(
    code: grpc.StatusCode, *trailers: tuple[str, str | bytes], details: str = "words", debug: str = ""
) -> grpc.aio.AioRpcError:
    make: Any = grpc.aio.AioRpcError
    metadata = (grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))
    error: grpc.aio.AioRpcError = make(code, *metadata, details=details, debug_error_string=debug)
    return error


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_in_both_tables(kind):
    assert kind in GRPC
    assert kind in HTTP


def test_the_tables_hold_nothing_but_kinds_and_no_code_stands_for_two_of_them():
    assert set(GRPC) == set(HTTP) == set(KINDS)
    assert len(set(GRPC.values())) == len(KINDS)


@pytest.mark.parametrize(
    ("refusal", "status"), [(JobFinished("no"), 409), (NotFound("no"), 404), (Stale("no"), 409), (Refusal("?"), 500)]
)
def test_a_refined_refusal_has_its_kinds_http_status(refusal, status):
    assert http_status(refusal) == status


def test_facts_that_are_absent_are_not_sent():
    assert b"deadline" not in grpc_status(NotFound("no", deadline=None)).SerializeToString()


def test_a_bare_refusal_is_a_fault_and_its_text_is_withheld():
    status = grpc_status(Refusal("the password"))

    assert (status.code, status.message) == (grpc.StatusCode.INTERNAL.value[0], "internal error")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Unavailable),
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.UNAUTHENTICATED, Forbidden),
        (grpc.StatusCode.ALREADY_EXISTS, Conflict),
        (grpc.StatusCode.INTERNAL, Refusal),
        (grpc.StatusCode.UNKNOWN, Refusal),
        (grpc.StatusCode.UNIMPLEMENTED, Refusal),
    ],
)
def test_a_code_that_grpc_sets_itself_has_a_kind_too(code, kind):
    error = ended_with(code)

    assert type(refusal_from(error)) is kind
    assert refusal_from(error).message == "words"


@pytest.mark.parametrize(
    ("code", "details", "debug", "away"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Stream removed", "", True),
        (grpc.StatusCode.CANCELLED, "", "", True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "", True),
        # What a write into the stream of a killed process ends in.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", 'Failed "execute_batch": (SendMessage', True),
        # Two writes at a time, which is a mistake of the caller.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", "Failed grpc_call_start_batch: 8 with", False),
        (grpc.StatusCode.INTERNAL, "internal error", "", False),
        (grpc.StatusCode.FAILED_PRECONDITION, "Internal error from Core", 'Failed "execute_batch": (SendM', False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", "", False),
    ],
)
def test_a_peer_is_away_by_code_and_details(code, details, debug, away):
    error = ended_with(code, details=details, debug=debug)

    assert is_away(error) == away
    assert isinstance(refusal_from(error), Unavailable) == away


def test_error_details_of_another_domain_are_not_taken_for_ours():
    error = ended_with(grpc.StatusCode.NOT_FOUND, ("grpc-status-details-bin", b""), ("other", "x"))

    assert refusal_from(error).facts == {}
