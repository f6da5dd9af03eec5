"""The state of the service, for people and for Prometheus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.upgrade.service import Service
from aeterna.table.service import ServiceState

# The names of the states in `fsm_state`, which is older than the table and has fewer states.
FSM = {
    ServiceState.PENDING: "PENDING",
    ServiceState.STARTING: "STARTING",
    ServiceState.RUNNING: "RUNNING",
    ServiceState.BACKING_OFF: "FAILED",
    ServiceState.PREFLIGHT: "PRE_CHECKING",
    ServiceState.SPAWNING: "STARTING",
    ServiceState.PREPARING: "HANDSHAKING",
    ServiceState.COMMITTING: "HANDSHAKING",
    ServiceState.RELEASING: "HANDSHAKING",
    ServiceState.WARMING: "HANDSHAKING",
    ServiceState.SOAKING: "SOAKING",
    ServiceState.PROMOTING: "DRAINING",
    ServiceState.DRAINING: "DRAINING",
    ServiceState.RETURNING: "ROLLING_BACK",
    ServiceState.ROLLING_BACK: "ROLLING_BACK",
    ServiceState.STOPPING: "STOPPED",
    ServiceState.STOPPED: "STOPPED",
}


def status(service: Service) -> dict[str, Any]:
    """The answer to `aeterna status --json`."""
    now = service.loop.now()

    def one(generation: Generation | None) -> dict[str, Any] | None:
        if generation is None or not generation.alive:
            return None
        return {
            "generation": generation.number,
            "pid": generation.pid,
            "ready": generation.ready,
            "waits": service.handover.relay.joined(generation.number),
            "uptime_s": round(now - generation.started, 3),
            "release": generation.config.service.release,
            "command": list(generation.config.service.command),
            "status": generation.status,
        }

    last = service.upgrades.last
    return {
        "service": service.specs.current.config.service.name,
        "supervisor_pid": os.getpid(),
        "state": service.machine.state.value,
        "fsm_state": FSM[service.machine.state],
        "queued": service.machine.queued,
        "serving": one(service.roles.serving),
        "successor": one(service.roles.successor),
        "retiring": one(service.roles.retiring),
        "standby": one(service.roles.standby),
        "canary_fraction": service.traffic.fraction,
        "previous": service.specs.previous is not None,
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
        "relay": service.handover.relay.facts(),
        "memory_bytes": resident(),
    }


def metrics(service: Service) -> str:
    """The page /metrics. Some gauges are read only now."""
    page = service.metrics
    listeners = service.listeners.all()
    page.healthy.replace({item.spec.name: float(item.healthy) for item in listeners})
    page.queued.replace({item.spec.name: float(item.waiting()) for item in listeners})
    page.heals.replace({item.spec.name: float(item.heals) for item in listeners})
    page.connections.replace({str(g.number): float(connections(g.pid)) for g in service.roles.by_number.values()})
    page.reaped.set(float(service.children.orphans))
    page.memory.set(float(resident()))
    facts = service.handover.relay.facts()
    page.handed_over.set(facts.get("connections", page.handed_over.values.get("", 0.0)))
    return page.text()


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connections(pid: int) -> int:
    """Sockets that a process has open, including its listeners and its notify socket."""
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
