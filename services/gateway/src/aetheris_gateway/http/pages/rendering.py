"""From a template and its values to a response with the headers that every page has. It stands alone because all pages
use it."""

from __future__ import annotations

import secrets
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from aetheris_gateway.http.pages import text

_environment = Environment(
    loader=PackageLoader("aetheris_gateway", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols"],
)
_environment.filters |= {
    "pretty": text.pretty,
    "agreed": text.agreed,
    "shown": text.shown,
    "clock": text.clock,
    "duration": text.duration,
}


def rendered(template: str, **values: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    # Styles and scripts run only if they carry this response's nonce, so text that a job wrote can never run as one.
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = _environment.get_template(template).render(nonce=nonce, **values)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(page, headers=headers)
