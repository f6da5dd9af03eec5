"""For every change to a chain, the first changed commit is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from aetheris_journal.chain import GENESIS, Commit, commit_hash, first_break
from hypothesis import given
from hypothesis import strategies as st

JOB = UUID("0190f1f0-aaaa-7bbb-8ccc-0123456789ab")


@st.composite
def chains(draw: st.DrawFn) -> list[Commit]:
    contents = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**60), st.binary(min_size=1, max_size=40)), min_size=2)
    )
    commits: list[Commit] = []
    parent, lease = GENESIS, 1
    for seq, (rise, time_us, body) in enumerate(contents, 1):
        lease += rise
        parent = commit_hash(parent, JOB, seq, lease, time_us, body)
        commits.append(Commit(seq, lease, time_us, parent, body))
    return commits


def named(commits: list[Commit]) -> int:
    found = first_break(JOB, commits)
    return 0 if found is None else found.seq


@given(chain=chains())
def test_an_untouched_chain_is_whole(chain):
    assert named(chain) == 0


@given(chain=chains(), data=st.data())
def test_an_edited_field_is_named(chain, data):
    place = data.draw(st.integers(0, len(chain) - 1))
    edit: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {"lease": chain[place].lease + 1},
                {"lease": chain[place].lease - 1},
                {"time_us": chain[place].time_us + 1},
                {"hash": flipped(chain[place].hash, data)},
                {"body": flipped(chain[place].body, data)},
                {"body": chain[place].body + b"\0"},
                {"body": chain[place].body[:-1]},
                {"seq": chain[place].seq + 1},
            ]
        )
    )

    assert named([*chain[:place], replace(chain[place], **edit), *chain[place + 1 :]]) == place + 1


def flipped(content: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(content) - 1))
    return content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]


@given(chain=chains(), data=st.data())
def test_a_dropped_stretch_is_named_by_its_first_commit(chain, data):
    first = data.draw(st.integers(0, len(chain) - 2))
    last = data.draw(st.integers(first + 1, len(chain) - 1))

    assert named(chain[:first] + chain[last:]) == first + 1


@given(chain=chains(), data=st.data())
def test_swapped_contents_are_named_by_the_first_of_the_two(chain, data):
    first = data.draw(st.integers(0, len(chain) - 2))
    last = data.draw(st.integers(first + 1, len(chain) - 1))
    swapped = list(chain)
    swapped[first] = replace(chain[last], seq=chain[first].seq)
    swapped[last] = replace(chain[first], seq=chain[last].seq)

    assert named(swapped) == first + 1


@given(chain=chains(), data=st.data())
def test_a_rewritten_commit_breaks_the_next(chain, data):
    """With its own hash made to fit: then the one after it names another parent."""
    place = data.draw(st.integers(0, len(chain) - 2))
    old, parent = chain[place], chain[place - 1].hash if place else GENESIS
    body = old.body + b"!"
    forged = replace(old, body=body, hash=commit_hash(parent, JOB, old.seq, old.lease, old.time_us, body))

    assert named([*chain[:place], forged, *chain[place + 1 :]]) == place + 2


@given(chain=chains(), data=st.data())
def test_pages_find_what_the_whole_finds(chain, data):
    cut = data.draw(st.integers(1, len(chain) - 1))
    before = chain[cut - 1]

    assert first_break(JOB, chain[:cut]) is None
    assert first_break(JOB, chain[cut:], after=before.seq, parent=before.hash, lease=before.lease) is None
