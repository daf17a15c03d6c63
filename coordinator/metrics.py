"""A small registry of metrics, and its text for Prometheus.

Most figures exist anyway where the work is done; a metric here is a name, a help text and a
function that reads the figure when somebody asks. Counting costs nothing until then.
"""

from __future__ import annotations

import gc
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, float]
Read = Callable[[], "float | Iterable[Sample]"]
DISK_BOUNDS = tuple(0.001 * 2**power for power in range(14))
"""Buckets of what a disk does, as etcd has them: from one millisecond to eight seconds."""

_STARTED = time.time()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is called, what it means, and how to read it."""

    name: str
    kind: str
    help: str
    read: Read


@dataclass(slots=True)
class Histogram:
    """Counts durations in buckets; for places where a single figure says too little.

    Attributes:
        bounds: Upper bounds of the buckets, in seconds, ascending.
    """

    bounds: tuple[float, ...] = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0)
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration; not from two threads at a time."""
        self.total += seconds
        self.counts[bisect_left(self.bounds, seconds)] += 1


ReadTimes = Callable[[], Iterable[tuple[Labels, Histogram]]]


class Metrics:
    """The registry."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._histograms: dict[str, tuple[str, ReadTimes]] = {}

    def gauge(self, name: str, help: str, read: Read) -> None:
        """Register a figure that goes up and down."""
        self._add(Metric(name, "gauge", help, read))

    def counter(self, name: str, help: str, read: Read) -> None:
        """Register a figure that only goes up; ``name`` ends in ``_total``."""
        self._add(Metric(name, "counter", help, read))

    def histogram(self, name: str, help: str, histogram: Histogram) -> None:
        """Register a distribution of durations."""
        self.histograms(name, help, lambda: [((), histogram)])

    def histograms(self, name: str, help: str, read: ReadTimes) -> None:
        """Register distributions of durations, told apart by labels."""
        assert name not in self.names(), name
        self._histograms[name] = (help, read)

    def _add(self, metric: Metric) -> None:
        assert metric.name not in self.names(), metric.name
        self._metrics[metric.name] = metric

    def names(self) -> list[str]:
        """List the names of all metrics."""
        return sorted((*self._metrics, *self._histograms))

    def render(self) -> str:
        """Write all of it in the text format of Prometheus."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
            value = metric.read()
            samples: Iterable[Sample] = [((), value)] if isinstance(value, int | float) else value
            lines += [f"{metric.name}{_labels(labels)} {_number(one)}" for labels, one in samples]
        for name, (help, read) in self._histograms.items():
            lines += (f"# HELP {name} {help}", f"# TYPE {name} histogram")
            for labels, histogram in read():
                lines += _buckets(name, labels, histogram)
        return "\n".join(lines) + "\n"


def _buckets(name: str, labels: Labels, histogram: Histogram) -> list[str]:
    lines, running = [], 0
    for bound, counted in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        running += counted
        lines.append(f"{name}_bucket{_labels((*labels, ('le', str(bound))))} {running}")
    told = _labels(labels)
    total = _number(histogram.total)
    return [*lines, f"{name}_sum{told} {total}", f"{name}_count{told} {running}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def by_label(name: str, values: Mapping[str, float]) -> list[Sample]:
    """Make one sample for each entry of a mapping."""
    return [(((name, key),), value) for key, value in sorted(values.items())]


def register_process(metrics: Metrics) -> None:
    """Register what every Prometheus client tells of its process."""
    metrics.gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes)
    metrics.gauge("process_start_time_seconds", "Unix time of the start.", lambda: _STARTED)
    metrics.counter("process_cpu_seconds_total", "CPU time used.", time.process_time)
    metrics.gauge("process_open_fds", "Open file descriptors.", open_files)
    metrics.gauge("process_max_fds", "How many may be open.", open_files_max)
    metrics.counter(
        "python_gc_collections_total",
        "Garbage collections.",
        lambda: [
            ((("generation", str(number)),), one["collections"])
            for number, one in enumerate(gc.get_stats())
        ],
    )


def resident_bytes() -> int:
    """Give the resident memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files_max() -> float:
    """Return how many file descriptors this process may have open."""
    import resource

    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def open_files() -> int:
    """Count the open files of this process; 0 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    return 0
