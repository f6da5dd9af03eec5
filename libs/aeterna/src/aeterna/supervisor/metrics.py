"""Metrics in the text format of Prometheus. Its client library would double the memory of PID 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# From a standby that takes over in less than a millisecond to a model that loads for a minute.
SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BYTES = tuple(float(4**n) for n in range(4, 17))


@dataclass
class Metric:
    """One metric with at most one label."""

    name: str
    kind: str
    about: str
    label: str = ""
    buckets: Sequence[float] = ()
    values: dict[str, float] = field(default_factory=dict)
    observed: dict[str, list[float]] = field(default_factory=dict)  # one count per bucket, then sum and count

    def add(self, amount: float = 1.0, label: str = "") -> None:
        """Increase a counter."""
        self.values[label] = self.values.get(label, 0.0) + amount

    def set(self, value: float, label: str = "") -> None:
        """Set a gauge."""
        self.values[label] = value

    def replace(self, values: Mapping[str, float]) -> None:
        """Set all labels; a label that is not in `values` is removed."""
        self.values = dict(values)

    def observe(self, value: float, label: str = "") -> None:
        """Add a measurement to a histogram."""
        row = self.observed.setdefault(label, [0.0] * (len(self.buckets) + 2))
        for i, bound in enumerate(self.buckets):
            row[i] += value <= bound
        row[-2] += value
        row[-1] += 1

    def lines(self) -> list[str]:
        """The lines of the text format."""
        text = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} {self.kind}"]
        values = self.values or ({} if self.label or self.buckets else {"": 0.0})
        text += [f"{self.name}{self._labels(label)} {value:.17g}" for label, value in values.items()]
        for label, row in self.observed.items() or ([] if self.label or not self.buckets else [("", [0.0] * 99)]):
            for i, bound in enumerate(self.buckets):
                text.append(f"{self.name}_bucket{self._labels(label, f'{bound:g}')} {row[i]:.17g}")
            text.append(f"{self.name}_bucket{self._labels(label, '+Inf')} {row[-1]:.17g}")
            text.append(f"{self.name}_sum{self._labels(label)} {row[-2]:.17g}")
            text.append(f"{self.name}_count{self._labels(label)} {row[-1]:.17g}")
        return text

    def _labels(self, label: str, bound: str = "") -> str:
        pairs = [(self.label, label)] if self.label else []
        pairs += [("le", bound)] if bound else []
        escaped = [(k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for k, v in pairs]
        return "{" + ",".join(f'{k}="{v}"' for k, v in escaped) + "}" if escaped else ""


def _counter(name: str, about: str, label: str = "") -> Metric:
    return Metric(f"aeterna_{name}", "counter", about, label)


def _gauge(name: str, about: str, label: str = "") -> Metric:
    return Metric(f"aeterna_{name}", "gauge", about, label)


def _histogram(name: str, about: str, label: str = "", buckets: Sequence[float] = SECONDS) -> Metric:
    return Metric(f"aeterna_{name}", "histogram", about, label, buckets)


class Metrics:
    """All metrics of the supervisor, in the order in which they are shown."""

    def __init__(self) -> None:
        self.handover_seconds = _histogram("handover_duration_seconds", "From COMMIT to the new process owning all.")
        self.phase_seconds = _histogram("phase_duration_seconds", "How long each state lasted.", "phase")
        self.transfer_seconds = _histogram("state_transfer_seconds", "From PREPARE to state installed.")
        self.transfer_bytes = _histogram("state_transfer_bytes", "State handed over, each time.", buckets=BYTES)
        self.process_state = _gauge("process_state", "1 for the state the service is in.", "state")
        self.generation = _gauge("generation", "Number of the serving process.")
        self.canary_fraction = _gauge("canary_fraction", "Share of new connections steered to the successor.")
        self.restarts = _counter("restarts_total", "Starts after a death.", "reason")
        self.handovers = _counter("handovers_total", "Upgrades by how they ended.", "result")
        self.rollbacks = _counter("rollbacks_total", "Upgrades undone after the new process had started.", "reason")
        self.rejected = _counter("state_rejected_total", "Hand-overs refused.", "reason")
        self.handed_over = _counter("connections_handed_over_total", "Live connections moved.")
        self.preflight_failures = _counter("preflight_failures_total", "Hooks that failed.", "hook")
        self.reaped = _counter("zombies_reaped_total", "Orphans reaped.")
        self.drain_killed = _counter("drain_killed_total", "Processes that outlived their drain deadline.")
        self.signals = _counter("signals_total", "Signals received.", "signal")
        self.heals = _counter("listener_heals_total", "Listeners repaired.", "listener")
        self.healthy = _gauge("listener_healthy", "1 while a listener listens.", "listener")
        self.queued = _gauge("accept_queue_length", "Connections nobody has accepted yet.", "listener")
        self.connections = _gauge("generation_connections", "Connections each process has open.", "generation")
        self.memory = _gauge("supervisor_memory_bytes", "Resident memory of the supervisor.")

    def all(self) -> list[Metric]:
        """Every metric."""
        return [metric for metric in vars(self).values() if isinstance(metric, Metric)]

    def text(self) -> str:
        """The whole page."""
        return "\n".join(line for metric in self.all() for line in metric.lines()) + "\n"

    def keep(self) -> dict[str, Any]:
        """The state for the next image, so that counters go on."""
        return {metric.name: [metric.values, metric.observed] for metric in self.all()}

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Take the state that `keep` gave in the image before."""
        for metric in self.all():
            values, observed = kept.get(metric.name, ({}, {}))
            metric.values = {str(label): float(value) for label, value in values.items()}
            metric.observed = {
                str(label): [float(n) for n in row]
                for label, row in observed.items()
                if len(row) == len(metric.buckets) + 2
            }
