"""How often etcd's calls begin, how they end and how long they take, as etcd's metrics have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator.etcd.status import Code
from coordinator.metrics import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coordinator.etcd.messages import Method
    from coordinator.metrics import Labels, Sample

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of a call, in seconds, as Prometheus' clients for Go have them."""
_WORDS: Final = {Code.OK: "OK", Code.CANCELLED: "Canceled"}


class Tally:
    """What has become of the calls of one method.

    Args:
        method: The method.

    Attributes:
        begun: How many have begun.
        labels: What tells the method apart.
        times: How long those that have ended took.
    """

    __slots__ = ("_ended", "begun", "labels", "times")

    def __init__(self, method: Method) -> None:
        service, _, name = method.path[1:].partition("/")
        kind = "unary"
        if method.server_streams:
            kind = "bidi_stream" if method.client_streams else "server_stream"
        self.labels: Labels = (
            ("grpc_type", kind),
            ("grpc_service", service),
            ("grpc_method", name),
        )
        self.begun = 0
        self.times = Histogram(BOUNDS)
        self._ended: dict[Code, int] = {}

    def ended(self, code: Code, seconds: float) -> None:
        """Count the end of a call."""
        self._ended[code] = self._ended.get(code, 0) + 1
        self.times.observe(seconds)

    def handled(self) -> Iterator[Sample]:
        """Give how many have ended with each code."""
        for code, count in sorted(self._ended.items()):
            yield ((*self.labels, ("grpc_code", _word(code))), count)


def _word(code: Code) -> str:
    """Write a code as gRPC for Go does."""
    return _WORDS.get(code) or code.name.title().replace("_", "")


def started(tallies: Iterable[Tally]) -> list[Sample]:
    """Give how many calls have begun, as samples of a metric."""
    return [(one.labels, one.begun) for one in tallies]


def handled(tallies: Iterable[Tally]) -> list[Sample]:
    """Give how many calls have ended, as samples of a metric."""
    return [sample for one in tallies for sample in one.handled()]


def times(tallies: Iterable[Tally]) -> list[tuple[Labels, Histogram]]:
    """Give how long calls took; nothing of methods that nobody has called."""
    return [(one.labels, one.times) for one in tallies if one.begun]
