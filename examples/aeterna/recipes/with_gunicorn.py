"""gunicorn under Aeterna needs no code: it reads LISTEN_FDS, and its workers finish their requests on SIGTERM.

aeterna.yaml:  command: ["gunicorn", "--graceful-timeout", "30", "with_gunicorn:app"]
"""

import os
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getppid()).encode()]
