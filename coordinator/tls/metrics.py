"""What metrics tell of certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.metrics import Labels, Metrics, Sample
    from coordinator.tls.credentials import Credentials


def register(metrics: Metrics, ports: Callable[[], Sequence[Credentials]]) -> None:
    """Register the metrics of the ports that speak TLS.

    Args:
        metrics: The registry.
        ports: Gives what they show and accept.
    """

    def expiries() -> list[Sample]:
        return [
            ((*_labels(one), ("file", kind)), at_s)
            for one in ports()
            for kind, at_s in one.expiries_s().items()
        ]

    metrics.gauge(
        "coordinator_tls_expiry_timestamp_seconds",
        "Unix time at which a certificate, the last authority or a list of revocations expires.",
        expiries,
    )
    metrics.counter(
        "coordinator_tls_reloads_total",
        "Changed files that were taken over.",
        lambda: [(_labels(one), one.reloads) for one in ports()],
    )
    metrics.counter(
        "coordinator_tls_reload_failures_total",
        "Changed files that could not be used; the old ones stayed.",
        lambda: [(_labels(one), one.failures) for one in ports()],
    )


def _labels(credentials: Credentials) -> Labels:
    return (("port", credentials.port.name),)
