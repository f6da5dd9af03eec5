"""For every change to a chain, the first changed commit is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from aetheris_journal import sealed
from aetheris_journal.chain import GENESIS, Commit, commit_hash, first_break
from hypothesis import given
from hypothesis import strategies as st

JOB = UUID("0190f1f0-aaaa-7bbb-8ccc-0123456789ab")


JOB_KEY = b"0123456789abcdef"

small = st.binary(max_size=20)
# What a body is made of: the bytes of format 1, or the skeleton and the payloads of format 2.
contents_of_bodies = st.binary(max_size=40) | st.tuples(small, st.lists(small, max_size=4))


def body_of(seq: int, content: bytes | tuple[bytes, list[bytes]]) -> tuple[bytes, bytes]:
    """The body and the commit's key."""
    if isinstance(content, bytes):
        return b"\x0a" + content, b""
    key = sealed.commit_key(JOB_KEY, seq)
    return sealed.seal("acme", key, *content), key


@st.composite
def chains(draw: st.DrawFn) -> list[Commit]:
    """Chains with bodies of both formats."""
    contents = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**60), contents_of_bodies), min_size=2))
    commits: list[Commit] = []
    parent, lease = GENESIS, 1
    for seq, (rise, time_us, content) in enumerate(contents, 1):
        lease += rise
        body, key = body_of(seq, content)
        parent = commit_hash(parent, JOB, seq, lease, time_us, body)
        commits.append(Commit(seq, lease, time_us, parent, body, key))
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
    body, key = body_of(old.seq, (b"!", [b"!"]) if sealed.is_sealed(old.body) else old.body[1:] + b"!")
    if body == old.body:
        return
    forged = replace(old, body=body, key=key, hash=commit_hash(parent, JOB, old.seq, old.lease, old.time_us, body))

    assert named([*chain[:place], forged, *chain[place + 1 :]]) == place + 2


@given(chain=chains(), data=st.data())
def test_pages_find_what_the_whole_finds(chain, data):
    cut = data.draw(st.integers(1, len(chain) - 1))
    before = chain[cut - 1]

    assert first_break(JOB, chain[:cut]) is None
    assert first_break(JOB, chain[cut:], after=before.seq, parent=before.hash, lease=before.lease) is None
