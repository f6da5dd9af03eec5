"""A history is a file whose chain is checked when it is read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from aetheris import history
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, Commit, commit_hash

JOB = UUID("018f0000-0000-7000-8000-000000000001")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TIME_US = 1_700_000_000_123_456


def chain(*bodies: list[e.Event]) -> list[Commit]:
    parent, commits = GENESIS, []
    for seq, events in enumerate(bodies, 1):
        body = codec.encode(events)
        parent = commit_hash(parent, JOB, seq, 1, TIME_US + seq, body)
        commits.append(Commit(seq, 1, TIME_US + seq, parent, body))
    return commits


CREATED = e.JobCreated("shop", "default", "default", b"{}", at=NOW)
COMMITS = chain([CREATED, e.JobLeased(1, "r1", at=NOW)], [e.JobCompleted(b"1", at=NOW)])


def test_a_history_is_read_as_it_was_written():
    written = history.of_commits(JOB, COMMITS)

    read = history.parse(history.dump(written), "a file")

    assert read == written
    assert read.agent == "shop"
    assert read.events[-1] == e.JobCompleted(b"1", at=NOW)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"lease": 1', '"lease": 2', "the chain is broken at commit 1"),
        ("123458+00:00", "123459+00:00", "the chain is broken at commit 2"),
        ('"seq": 2', '"seq": 3', "commit 2 is missing"),
        ("aetheris-history/1", "aetheris-history/9", "its format is 'aetheris-history/9'"),
        ("]}", "", "it is no JSON"),
        ('"body"', '"bodies"', "a part of it is missing"),
        ('"body": "', '"body": "!', "a part of it is missing or wrong"),
        (str(JOB), "job", "a part of it is missing or wrong"),
    ],
)
def test_a_history_that_was_edited_is_refused(before: str, after: str, said: str):
    text = history.dump(history.of_commits(JOB, COMMITS))
    assert before in text

    with pytest.raises(history.HistoryUnreadable, match=said):
        history.parse(text.replace(before, after, 1), "a file")


def test_what_is_no_history_of_a_job_is_refused(tmp_path: Path):
    with pytest.raises(history.HistoryUnreadable, match="nothing on record"):
        history.of_commits(JOB, [])
    with pytest.raises(history.HistoryUnreadable, match="No such file"):
        history.read(tmp_path / "nowhere.json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(history.HistoryUnreadable, match="no text"):
        history.read(tmp_path / "bytes")
