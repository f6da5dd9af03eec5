"""Which of the supervisor's listeners a service takes: the one at the very address it was told, and no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from aetheris_chassis import handover
from aetheris_chassis.address import Address
from aetheris_chassis.settings import ServiceSettings
from aetheris_kernel.errors import Invalid


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as other:
        monkeypatch.setenv("AETERNA_INHERITED_FDS", f"{other.fileno()},{listener.fileno()}")
        monkeypatch.delenv("LISTEN_FDS", raising=False)
        yield listener


def test_a_listener_is_taken_by_its_address(lent: socket.socket) -> None:
    host, port = lent.getsockname()
    found = handover.lent_listener(Address(host, port))

    assert found is not None
    assert found.getsockname() == (host, port)
    assert not found.getblocking()
    found.close()
    # The supervisor's own stays open.
    assert lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_one_at_another_address_is_not_taken_instead(lent: socket.socket) -> None:
    """A service that asked for loopback must not be reachable from the network."""
    port = lent.getsockname()[1]

    assert handover.lent_listener(Address("0.0.0.0", port)) is None
    assert handover.lent_listener(Address("127.0.0.1", port + 1)) is None
    assert handover.lent_listener(Address("", 0, "/run/service.sock")) is None


def test_a_file_cannot_be_shared(tmp_path: object) -> None:
    address = Address("", 0, f"{tmp_path}/service.sock")

    assert handover.grpc_options(ServiceSettings(listen=str(address)), address) == {}
    with pytest.raises(Invalid):
        handover.grpc_options(ServiceSettings(listen=str(address), replaceable=True), address)
