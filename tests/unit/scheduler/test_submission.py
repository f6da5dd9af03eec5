"""What the scheduler checks of a submission, and what its caller has checked."""

from __future__ import annotations

from uuid import UUID

import pytest
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Invalid
from aetheris_scheduler.core.submission import INPUT_BYTES_MAX, Submission, checked

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
