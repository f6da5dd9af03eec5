"""Which hosts a DSN names."""

from __future__ import annotations

import pytest
from aetheris_chassis.database_hosts import DatabaseHost, hosts_of


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://h/db", [DatabaseHost("h")]),
        (
            "postgresql://u:p@h1:5432,h2:5433,h3/db",
            [DatabaseHost("h1", 5432), DatabaseHost("h2", 5433), DatabaseHost("h3")],
        ),
        ("postgresql://u@[::1]:6000,[fe80::1]/db", [DatabaseHost("::1", 6000), DatabaseHost("fe80::1")]),
        ("postgresql://u@/db?host=/run/a,/run/b", [DatabaseHost("/run/a"), DatabaseHost("/run/b")]),
        ("postgresql://u@/db?host=a,b&port=1,2", [DatabaseHost("a", 1), DatabaseHost("b", 2)]),
        ("postgresql://u@/db?host=a,b&port=7", [DatabaseHost("a", 7), DatabaseHost("b", 7)]),
        ("postgresql://%2Frun%2Fa,h2/db", [DatabaseHost("/run/a"), DatabaseHost("h2")]),
        ("postgresql:///db", []),
    ],
)
def test_a_dsn_names_its_hosts_in_order(dsn, hosts):
    assert list(hosts_of(dsn)) == hosts
