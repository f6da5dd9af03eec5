"""Addresses as settings have them: `host:port`, `[::1]:port`, `unix:/path`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from aetheris_kernel.errors import Forbidden, Invalid


@dataclass(frozen=True, slots=True)
class Address:
    host: str  # empty for a socket in the file system
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine can connect to it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, *, setting: str) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        # unix://host/path is a URI with an authority; only the absolute form of it names a file.
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path or path.startswith("//"):
            raise Invalid(f"{setting} names no file: {text}", field=setting)
        return Address("", 0, path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise Invalid(f"{setting} is host:port or unix:/path, not {text!r}", field=setting)
    return Address(host, int(port))


def require_local(address: Address, *, setting: str, trust_network: bool) -> None:
    if not address.local and not trust_network:
        raise Forbidden(
            f"{setting}={address} is open to the network and nothing there is authenticated. Listen on 127.0.0.1 or "
            "unix:/path, or set AETHERIS_TRUST_NETWORK=true where every peer on the network is trusted",
            field=setting,
        )
