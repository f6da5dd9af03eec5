"""The formula, spelled out once by hand."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import pytest
from aetheris_journal.chain import GENESIS, Break, Commit, commit_hash, first_break

JOB = UUID("0190f1f0-aaaa-7bbb-8ccc-0123456789ab")


def test_the_hash_is_that_of_parent_job_seq_lease_time_and_body():
    plain = (
        bytes(32)
        + bytes.fromhex("0190f1f0aaaa7bbb8ccc0123456789ab")
        + (1).to_bytes(8, "big")
        + (7).to_bytes(8, "big")
        + (1_767_225_600_000_001).to_bytes(8, "big")
        + b"body"
    )

    assert commit_hash(GENESIS, JOB, 1, 7, 1_767_225_600_000_001, b"body") == sha256(plain).digest()


def test_the_formula_is_the_same_in_every_release():
    digest = commit_hash(b"\x11" * 32, JOB, 2, 3, 4, b"body")

    assert digest.hex() == "819bb68810b616b7ffd4e1a66d405c449a52cd6901ed1272d5f6782033def8c0"


def linked(*contents: tuple[int, bytes], after: int = 0, parent: bytes = GENESIS) -> list[Commit]:
    commits = []
    for seq, (lease, body) in enumerate(contents, after + 1):
        parent = commit_hash(parent, JOB, seq, lease, 5, body)
        commits.append(Commit(seq, lease, 5, parent, body))
    return commits


def test_a_whole_chain_has_no_break():
    assert first_break(JOB, linked((1, b"a"), (1, b"b"), (2, b"c"))) is None
    assert first_break(JOB, []) is None


def test_a_chain_is_continued_from_any_place():
    commits = linked((1, b"a"), (2, b"b"), (2, b"c"))

    assert first_break(JOB, commits[1:], after=1, parent=commits[0].hash, lease=1) is None
    assert first_break(JOB, commits[1:], after=1, parent=commits[1].hash) == Break(
        2, "the hash does not match the commit's content and its parent"
    )
    assert first_break(JOB, commits[2:], after=1, parent=commits[0].hash) == Break(
        2, "commit 2 is missing: 3 follows 1"
    )


@pytest.mark.parametrize("before", [0, 3])
def test_a_lease_that_falls_is_a_break_within_and_across_pages(before):
    commits = linked((3, b"a"), (2, b"b"))
    rest, after, parent = (commits, 0, GENESIS) if not before else (commits[1:], 1, commits[0].hash)

    assert first_break(JOB, rest, after=after, parent=parent, lease=before) == Break(2, "lease 2 follows lease 3")


def test_a_chain_belongs_to_its_job():
    other = UUID(int=JOB.int + 1)

    found = first_break(other, linked((1, b"a")))

    assert found is not None
    assert found.seq == 1
