"""A job's record as a file: `aetheris export` writes it, and replay reads it without a server.

    {"format": "aetheris-history/2", "job_id": …, "agent": …,
     "commits": [{"seq": 1, "lease": 1, "time": …, "hash": …, "body": …, "key": …}, …]}

`body` holds the exact bytes of the commit, in base64, and `key` what its payloads are checked with. So reading finds an
edited file, as it finds an edited record. A file whose commits all have bodies of format 1 has no keys and the format
"aetheris-history/1".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import Commit, first_break

from aetheris.errors import AetherisError

FORMAT, FORMAT_WITH_KEYS = "aetheris-history/1", "aetheris-history/2"
SUFFIX = ".history.json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryUnreadable(AetherisError):
    """The file is no history, or its chain is broken; the message says where."""


class NothingRecorded(HistoryUnreadable):
    """The job has no record yet: no runner has begun it."""


@dataclass(frozen=True, slots=True)
class History:
    """Commits whose chain is whole."""

    job_id: UUID
    agent: str
    commits: Sequence[Commit]

    @property
    def events(self) -> list[e.Event]:
        return [event for commit in self.commits for event in codec.decode(commit.body)]


def of_commits(job_id: UUID, commits: Iterable[Commit], origin: str = "") -> History:
    """The history of these commits. Raises HistoryUnreadable if the chain is broken or does not begin with the job."""
    where = origin or f"job {job_id}"
    kept = tuple(commits)
    broken = first_break(job_id, kept)
    if broken is not None:
        raise HistoryUnreadable(f"{where}: the chain is broken at commit {broken.seq}: {broken.problem}")
    try:
        first = next(iter(codec.decode(kept[0].body))) if kept else None
    except ValueError as unknown:
        raise HistoryUnreadable(f"{where}: commit 1 holds what this version does not know: upgrade it") from unknown
    if not isinstance(first, e.JobCreated):
        raise NothingRecorded(f"{where}: there is nothing on record yet, so there is nothing to replay")
    return History(job_id, first.agent, kept)


def dump(history: History) -> str:
    """The history as JSON with one commit a line, so that two histories can be compared as text."""
    lines = [json.dumps(_commit(commit), ensure_ascii=False) for commit in history.commits]
    kind = FORMAT_WITH_KEYS if any(commit.key for commit in history.commits) else FORMAT
    head = f'{{"format": "{kind}", "job_id": "{history.job_id}", "agent": {json.dumps(history.agent)}, "commits": ['
    return head + "\n" + ",\n".join(lines) + "\n]}\n"


def read(path: Path) -> History:
    try:
        return parse(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise HistoryUnreadable(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise HistoryUnreadable(f"{path}: it is no text: {error}") from error


def parse(text: str, origin: str) -> History:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HistoryUnreadable(f"{origin}: it is no JSON: {error}") from error
    if not isinstance(told, dict) or told.get("format") not in (FORMAT, FORMAT_WITH_KEYS):
        found = told.get("format") if isinstance(told, dict) else None
        raise HistoryUnreadable(
            f"{origin}: it is no history of this kind: its format is {found!r}, not {FORMAT_WITH_KEYS!r}"
        )
    try:
        job_id = UUID(told["job_id"])
        commits = [read_commit(each) for each in told["commits"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HistoryUnreadable(f"{origin}: a part of it is missing or wrong: {error!r}") from error
    return of_commits(job_id, commits, origin)


def read_commit(told: Mapping[str, Any]) -> Commit:
    try:
        body = base64.b64decode(told["body"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"the body of commit {told['seq']} is no base64") from error
    moment = datetime.fromisoformat(told["time"])
    time_us = (moment - _EPOCH) // timedelta(microseconds=1)
    key = bytes.fromhex(told.get("key") or "")
    return Commit(int(told["seq"]), int(told["lease"]), time_us, bytes.fromhex(told["hash"]), body, key)


def _commit(commit: Commit) -> dict[str, Any]:
    moment = _EPOCH + timedelta(microseconds=commit.time_us)
    told = {
        "seq": commit.seq,
        "lease": commit.lease,
        "time": moment.isoformat(timespec="microseconds"),
        "hash": commit.hash.hex(),
        "body": base64.b64encode(commit.body).decode(),
    }
    return told | {"key": commit.key.hex()} if commit.key else told
