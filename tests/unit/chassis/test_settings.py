"""The environment, read once."""

from __future__ import annotations

import pytest
from aetheris_chassis.settings import ServiceSettings
from pydantic import ValidationError


def test_every_field_is_an_environment_variable(monkeypatch):
    for name, value in {
        "LISTEN": "unix:/run/x",
        "DATABASE_URL": "postgresql://h/d",
        "DATABASE_POOL_MAX": "7",
        "TRUST_NETWORK": "true",
        "DRAIN_S": "1.5",
    }.items():
        monkeypatch.setenv(f"AETHERIS_{name}", value)
    settings = ServiceSettings()

    assert (settings.listen, settings.database_url) == ("unix:/run/x", "postgresql://h/d")
    assert (settings.database_pool_max, settings.trust_network, settings.drain_s) == (7, True, 1.5)


@pytest.mark.parametrize("wrong", [{"log_level": "loud"}, {"drain_s": -1}, {"database_pool_max": 0}, {"listen": None}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError):
        ServiceSettings(**({"listen": "127.0.0.1:0"} | wrong))


def test_a_service_that_gives_no_default_has_to_be_told_where_to_listen():
    with pytest.raises(ValidationError, match="listen"):
        ServiceSettings()
