"""Addresses."""

from __future__ import annotations

import pytest
from aetheris_chassis.address import parse_address


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("127.0.0.1:9093", "127.0.0.1:9093"),
        ("[::1]:9093", "[::1]:9093"),
        ("localhost:0", "localhost:0"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
        ("unix:relative", "unix:relative"),
    ],
)
def test_an_address_is_written_as_grpc_reads_it(text, written):
    assert str(parse_address(text, setting="S")) == written


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/a", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_only_loopback_and_files_are_local(text, local):
    assert parse_address(text, setting="S").local is local
