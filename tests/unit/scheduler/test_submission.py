"""What the scheduler checks of a submission, and what its caller has checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import pytest
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Invalid, KeyReused
from aetheris_scheduler.core.submission import INPUT_BYTES_MAX, Submission, born, checked, require_same

JOB: UUID = SystemClock().new_id()


def submission(input_: bytes) -> Submission:
    return Submission(id=JOB, tenant="default", agent="a", input=input_)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b"[" * 100_000])
def test_an_input_is_parsed_unless_its_caller_has_parsed_it(raw):
    with pytest.raises(Invalid, match="JSON object"):
        checked(submission(raw))

    assert checked(submission(raw), input_checked=True).input == raw


def test_the_size_of_an_input_is_always_checked():
    for parsed in (False, True):
        with pytest.raises(Invalid, match="at most"):
            checked(submission(b'{"a":"' + b"x" * INPUT_BYTES_MAX + b'"}'), input_checked=parsed)


def test_one_request_has_one_digest_whether_parsed_or_not():
    raw = b'{"args":[],"kwargs":{}}'

    assert checked(submission(raw)).digest == checked(submission(raw), input_checked=True).digest


def keyed(input_: bytes) -> Submission:
    return replace(submission(input_), idempotency_key="k")


def test_c2_the_order_of_members_and_space_make_no_other_request():
    first = checked(keyed(b'{"a":1,"b":{"c":2,"d":3}}'))
    stored = born(first, datetime(2026, 1, 1, tzinfo=UTC))

    require_same(checked(keyed(b'{ "b": {"d":3, "c":2}, "a":1 }')), stored)
    for other in (b'{"a":1,"b":{"c":3,"d":2}}', b'{"a":1.0,"b":{"c":2,"d":3}}', b'{"a":1}'):
        with pytest.raises(KeyReused):
            require_same(checked(keyed(other)), stored)
    # The job gets the input as it was sent first.
    assert stored.input == first.input


def test_c2_numbers_that_python_cannot_hold_are_compared_as_they_were_written():
    stored = born(checked(keyed(b'{"a":1e400}')), datetime(2026, 1, 1, tzinfo=UTC))

    require_same(checked(keyed(b'{"a":1e400}')), stored)
    with pytest.raises(KeyReused):
        require_same(checked(keyed(b'{"a":1e401}')), stored)


def test_c2_the_digest_of_a_job_that_an_earlier_release_stored_stays_valid():
    raw = b'{"b":1,  "a":2}'
    old = sha256(b"default\na\ndefault\n0\n\n" + raw).digest()
    stored = replace(born(checked(keyed(raw)), datetime(2026, 1, 1, tzinfo=UTC)), digest=old)

    require_same(checked(keyed(raw)), stored)
