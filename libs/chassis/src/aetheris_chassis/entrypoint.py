"""The entry point `python -m aetheris_<service>`, the same for every service.

    main("aetheris_ledger", Settings, serve)

Without an argument it serves; `migrate` applies the missing migrations and prints their names.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from aetheris_kernel.errors import Refusal
from pydantic import ValidationError

from aetheris_chassis.grants import grant
from aetheris_chassis.logs import setup_logging
from aetheris_chassis.migrate import Phase, migrate
from aetheris_chassis.process import run
from aetheris_chassis.settings import ServiceSettings
from aetheris_chassis.traces import setup_traces

Settings = TypeVar("Settings", bound=ServiceSettings)

_PHASES: dict[str, Phase] = {"--pre": "pre", "--post": "post"}


def main(
    package: str,
    settings_type: Callable[[], Settings],
    serve: Callable[[Settings], Coroutine[Any, Any, None]],
    arguments: Sequence[str] | None = None,
) -> None:
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["serve"]
    if command not in ("serve", "migrate") or (rest and (command == "serve" or rest[0] not in _PHASES or rest[1:])):
        sys.exit(f"usage: python -m {package} [serve | migrate [--pre | --post]]")
    try:
        settings = settings_type()
    except ValidationError as invalid:
        sys.exit("\n".join(_messages(invalid)))
    service = package.removeprefix("aetheris_")
    setup_logging(service, settings.log_level)
    if command == "migrate":
        _migrate(settings, package, _PHASES[rest[0]] if rest else None)
        return
    stop_traces = setup_traces(service, settings.otlp_endpoint)
    try:
        run(lambda: serve(settings))
    finally:
        stop_traces()


def _migrate(settings: ServiceSettings, package: str, phase: Phase | None) -> None:
    try:
        applied = asyncio.run(migrate(settings.database_url, package, phase=phase))
        if settings.database_role:
            asyncio.run(grant(settings.database_url, package, settings.database_role))
    except Refusal as refusal:
        sys.exit(refusal.message)
    lines = [f"applied {name}" for name in applied] or [f"{package}: nothing to apply"]
    if settings.database_role:
        lines.append(f"granted {settings.database_role} what {package} needs")
    sys.stdout.write("\n".join(lines) + "\n")


def _messages(invalid: ValidationError) -> list[str]:
    return [
        f"AETHERIS_{'_'.join(str(part) for part in error['loc']).upper()}: {error['msg']}" for error in invalid.errors()
    ]
