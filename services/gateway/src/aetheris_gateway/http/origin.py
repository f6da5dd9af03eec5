"""Under which names the gateway is called, and for the pages of which sites.

A browser sends requests of any web page to any address that it reaches, the gateway's included. Two checks keep such
pages out. The name in `Host` must be one of the gateway's own: a page's owner may point a name of theirs at the
gateway's address (DNS rebinding), and the browser then takes the gateway for that page's own site. And the page must be
the gateway's: browsers say so in `Origin`, which they send with every change, and in `Sec-Fetch-Site`, which they send
to encrypted addresses and to localhost. Programs that are no browsers send neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aetheris_kernel.errors import Invalid

Headers = Sequence[tuple[bytes, bytes]]

ALL = "*"
# A name, or an address, and a port; nothing else may stand around them.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is refused, and which header says so."""

    status: int
    code: str
    message: str
    field: str


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The names under which the gateway answers, beside those of loopback. With a port a name counts as an origin of
    pages, too."""

    names: frozenset[str]

    @staticmethod
    def parse(text: str) -> AllowedHosts:
        """From a list with commas: `gateway.example, gateway.example:8443`, or `*` for all names."""
        names = frozenset(name.strip().lower() for name in text.split(",") if name.strip())
        wrong = next((name for name in names if name != ALL and not _HOST.fullmatch(name)), None)
        if wrong is not None:
            raise Invalid(f"AETHERIS_HTTP_HOSTS has names and ports, not {wrong!r}", field="AETHERIS_HTTP_HOSTS")
        return AllowedHosts(names)

    def refusal(self, method: str, headers: Headers) -> Refused | None:
        hosts = _values(headers, b"host")
        if len(hosts) > 1:
            return Refused(400, "INVALID", "the request names two hosts", "host")
        host = hosts[0].lower() if hosts else ""
        if not self._allows(host):
            names = "this gateway does not answer to that name; AETHERIS_HTTP_HOSTS lists the names that it has"
            return Refused(403, "FORBIDDEN", names, "host")
        if _from_another_site(method, headers):
            return Refused(403, "FORBIDDEN", "a browser sent this request for a page of another site", "sec-fetch-site")
        if any(not self._own(origin.lower(), host) for origin in _values(headers, b"origin")):
            return Refused(403, "FORBIDDEN", "a browser sent this request for a page of another site", "origin")
        return None

    def _allows(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        return match[1] in _LOOPBACK or ALL in self.names or bool({match[1], host} & self.names)

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` is the gateway's own: it has the name and the port that the request has, or, where
        a proxy changed those on the way, a name that is listed with this port."""
        scheme, separator, place = origin.partition("://")
        port = _DEFAULT_PORTS.get(scheme)
        if not separator or port is None:
            return False
        bare = place.removesuffix(f":{port}")
        return bare in (host, host.removesuffix(f":{port}")) or bool({bare, place, f"{bare}:{port}"} & self.names)


def _from_another_site(method: str, headers: Headers) -> bool:
    """Whether a browser says that a page of another site sends this. A link that a person follows from there is
    welcome: it opens a page of the gateway by itself."""
    sites = _values(headers, b"sec-fetch-site")
    if all(site in ("none", "same-origin") for site in sites):
        return False
    followed = all(dest == "document" for dest in _values(headers, b"sec-fetch-dest"))
    return method not in ("GET", "HEAD") or not followed


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]
