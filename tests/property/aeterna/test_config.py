"""Every text is read as a configuration or refused with a ConfigError."""

from __future__ import annotations

import json
import string
from contextlib import suppress

from aeterna.config.field import ConfigError
from aeterna.config.read import read
from aeterna.table.addresses import BadAddress, parse
from hypothesis import given
from hypothesis import strategies as st

WORDS = """
version service name command env listeners address sharing orchestration canary soak_time
fraction error_rate url startup readiness http tcp grpc drain timeout state_handoff enabled restart policy limits
state_size control
"""
KEYS = st.sampled_from(WORDS.split())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_a_file_is_read_or_refused(tree: object) -> None:
    with suppress(ConfigError):
        read(json.dumps(tree))


@given(st.text(max_size=80))
def test_a_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        read(text)


@given(
    st.text(string.printable, max_size=30)
    | st.from_regex(r"(tcp|udp)://[0-9a-f.:\[\]]{0,20}:[0-9]{1,5}", fullmatch=True)
)
def test_an_address_has_one_spelling(text: str) -> None:
    with suppress(BadAddress):
        once = parse(text)
        assert parse(str(once)) == once
