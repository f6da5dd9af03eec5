"""The page of approvals. It stands alone because each page has one module."""

from __future__ import annotations

from aetheris_api.approvals import ApprovalPage
from starlette.responses import HTMLResponse

from aetheris_gateway.core.approval import Person
from aetheris_gateway.http.pages.rendering import rendered


def approvals(person: Person, page: ApprovalPage) -> HTMLResponse:
    return rendered("approvals.html", person=person, approvals=page.approvals, next_cursor=page.next_cursor)
