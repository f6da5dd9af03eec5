"""What a process says on its notify socket, and what follows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aeterna.supervisor import log
from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.processes.notify import Notice
from aeterna.table.soak import Counted

if TYPE_CHECKING:
    from aeterna.supervisor.upgrade.service import Service


def hear(service: Service, generation: Generation, notice: Notice) -> None:
    """One datagram. Lines we do not know are for other supervisors."""
    lines = notice.lines
    if lines.get("FDSTORE") == "1":
        service.store.put(lines.get("FDNAME", "stored"), notice.fds)
    else:
        for fd in notice.fds:
            os.close(fd)
    if lines.get("FDSTOREREMOVE") == "1" and "FDNAME" in lines:
        service.store.remove(lines["FDNAME"])
    if "STATUS" in lines:
        generation.status = lines["STATUS"][:256]
        log.info("status", generation=generation.number, status=generation.status)
    if "X_AETERNA_REQUESTS" in lines:
        try:
            requests, errors = float(lines["X_AETERNA_REQUESTS"]), float(lines.get("X_AETERNA_ERRORS", "0"))
        except ValueError:
            log.warn("no number", generation=generation.number, said=lines["X_AETERNA_REQUESTS"][:64])
        else:
            generation.counted = Counted(requests, errors)
            if generation is service.successor:
                service.counted()
    if lines.get("READY") == "1":
        generation.notified = True
        readiness = service.readiness(generation)
        if readiness is not None:
            readiness.notified()
