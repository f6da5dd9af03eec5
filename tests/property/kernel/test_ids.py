"""The bucket in a job's id: what belongs together has one, and it is for ever."""

from __future__ import annotations

from uuid import UUID

import pytest
from aetheris_kernel.ids import BUCKETS, bucket_of, bucket_of_key, in_bucket, uuid7
from hypothesis import given
from hypothesis import strategies as st

moments = st.integers(0, 2**48 - 1)
randomness = st.integers(0, 2**74 - 1)
buckets = st.integers(0, BUCKETS - 1)


def test_the_bucket_is_the_twelve_bits_behind_the_version():
    assert bucket_of(UUID("0190f1f0-aaaa-7bcd-8ccc-0123456789ab")) == 0xBCD
    assert str(in_bucket(UUID("0190f1f0-aaaa-7bcd-8ccc-0123456789ab"), 0x012)) == "0190f1f0-aaaa-7012-8ccc-0123456789ab"


def test_the_bucket_of_a_key_is_the_same_in_every_release():
    assert bucket_of_key("default", "checkout", "o-1") == 4081


@given(moment=moments, bits=randomness, bucket=buckets)
def test_an_id_in_a_bucket_is_a_uuid_of_version_7_of_the_same_moment(moment, bits, bucket):
    plain = uuid7(moment, bits)
    placed = in_bucket(plain, bucket)

    assert bucket_of(placed) == bucket
    assert (placed.version, placed.variant) == (7, plain.variant)
    assert placed.int >> 80 == plain.int >> 80 == moment
    assert in_bucket(placed, bucket_of(plain)) == plain


@pytest.mark.parametrize("bucket", [-1, BUCKETS])
def test_there_is_no_other_bucket(bucket):
    with pytest.raises(ValueError, match="buckets"):
        in_bucket(uuid7(1, 1), bucket)


@given(parts=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)), max_size=20))
def test_a_keys_bucket_depends_on_nothing_else(parts):
    assert [bucket_of_key(*each) for each in parts] == [bucket_of_key(*each) for each in parts]
    assert all(0 <= bucket_of_key(*each) < BUCKETS for each in parts)


def test_keys_spread_over_the_buckets():
    found = {bucket_of_key("default", "checkout", str(n)) for n in range(20_000)}

    assert len(found) > BUCKETS * 0.98


def test_no_two_splits_of_the_same_text_share_a_bucket_by_construction():
    assert len({bucket_of_key("ab", "c", ""), bucket_of_key("a", "bc", ""), bucket_of_key("a", "b", "c")}) == 3
