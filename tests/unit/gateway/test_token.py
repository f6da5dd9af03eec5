"""A token gives back what it was made for; a changed token is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from aetheris_gateway.core.token import Grant, mint, read
from aetheris_kernel.errors import Forbidden

JOB = UUID("018f0000-0000-7000-8000-000000000001")
GRANT = Grant("default", JOB, "awakeable/3.1.0", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
SECRETS = {1: b"a" * 32, 2: b"b" * 32}


@pytest.mark.parametrize("grant", [GRANT, Grant("t", JOB, "x"), Grant("default", JOB, "awakeable/é💥")])
def test_a_token_says_what_it_was_made_for(grant):
    token = mint(grant, 2, SECRETS[2])

    assert re.fullmatch(r"[A-Za-z0-9._-]+", token)
    assert read(token, SECRETS) == grant
    assert mint(grant, 2, SECRETS[2]) == token


def test_every_other_writing_of_a_token_is_refused():
    token = mint(GRANT, 1, SECRETS[1])
    said, _, signature = token.partition(".")
    forged = [token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(len(token))]
    forged += [token[:-1], token + "A", token + "=", said, f"{said}.", f".{signature}", f"{said}={signature}", "", "."]
    forged += [f"{said} .{signature}", f"{said}\n.{signature}", f"{said}.{signature}\n", "💥.💥", "a.b", "\0"]
    forged += [mint(GRANT, 1, SECRETS[2]), mint(GRANT, 3, SECRETS[1]), f"{said}.{signature}.{signature}"]
    for text in forged:
        with pytest.raises(Forbidden):
            read(text, SECRETS)


def test_a_key_that_was_taken_away_is_believed_no_more():
    token = mint(GRANT, 1, SECRETS[1])

    with pytest.raises(Forbidden):
        read(token, {2: SECRETS[2]})
