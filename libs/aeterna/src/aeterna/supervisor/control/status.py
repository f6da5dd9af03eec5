"""How it stands, for people and for Prometheus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.upgrade.service import Service
from aeterna.table.service import State

# The names this had before the table grew.
FSM = {
    State.PENDING: "PENDING",
    State.STARTING: "STARTING",
    State.RUNNING: "RUNNING",
    State.BACKING_OFF: "FAILED",
    State.PREFLIGHT: "PRE_CHECKING",
    State.SPAWNING: "STARTING",
    State.PREPARING: "HANDSHAKING",
    State.COMMITTING: "HANDSHAKING",
    State.RELEASING: "HANDSHAKING",
    State.WARMING: "HANDSHAKING",
    State.SOAKING: "SOAKING",
    State.PROMOTING: "DRAINING",
    State.DRAINING: "DRAINING",
    State.RETURNING: "ROLLING_BACK",
    State.ROLLING_BACK: "ROLLING_BACK",
    State.STOPPING: "STOPPED",
    State.STOPPED: "STOPPED",
}


def status(service: Service) -> dict[str, Any]:
    """All there is to know."""
    now = service.loop.now()

    def one(generation: Generation | None) -> dict[str, Any] | None:
        if generation is None or not generation.alive:
            return None
        return {
            "generation": generation.number,
            "pid": generation.pid,
            "ready": generation.ready,
            "waits": service.relay.joined(generation.number),
            "uptime_s": round(now - generation.started, 3),
            "release": generation.config.service.release,
            "command": list(generation.config.service.command),
            "status": generation.status,
        }

    last = service.upgrades.last
    return {
        "service": service.release.config.service.name,
        "supervisor_pid": os.getpid(),
        "state": service.machine.state.value,
        "fsm_state": FSM[service.machine.state],
        "queued": service.machine.queued,
        "serving": one(service.serving),
        "successor": one(service.successor),
        "retiring": one(service.retiring),
        "standby": one(service.standby),
        "canary_fraction": service.fraction,
        "previous": service.previous is not None,
        "last_upgrade": last.view() if last else None,
        "deaths_in_a_row": service.deaths.count,
        "orphans_reaped": service.children.orphans,
        "stored_fds": [name for name, _ in service.store.all()],
        "listeners": [
            {
                "name": listener.spec.name,
                "address": str(listener.bound()),
                "sharing": listener.spec.sharing,
                "healthy": listener.healthy,
                "heals": listener.heals,
                "queued": listener.waiting(),
            }
            for listener in service.listeners.all()
        ],
        "relay": service.relay.facts(),
        "memory_bytes": resident(),
    }


def metrics(service: Service) -> str:
    """The page, with what is only known when somebody asks."""
    page = service.metrics
    listeners = service.listeners.all()
    page.healthy.replace({item.spec.name: float(item.healthy) for item in listeners})
    page.queued.replace({item.spec.name: float(item.waiting()) for item in listeners})
    page.heals.replace({item.spec.name: float(item.heals) for item in listeners})
    page.connections.replace({str(g.number): float(connections(g.pid)) for g in service.by_number.values()})
    page.reaped.set(float(service.children.orphans))
    page.memory.set(float(resident()))
    facts = service.relay.facts()
    page.handed_over.set(facts.get("connections", page.handed_over.values.get("", 0.0)))
    return page.text()


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connections(pid: int) -> int:
    """Sockets a process has open, its listeners and its notify socket among them."""
    count = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                count += str(entry.readlink()).startswith("socket:")
            except OSError:
                continue  # closed in the meantime
    except OSError:
        return 0
    return count
