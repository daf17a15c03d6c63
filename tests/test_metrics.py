"""Distributions, as Prometheus reads them."""

from __future__ import annotations

from coordinator.metrics import DISK_BOUNDS, Histogram, Metrics
from coordinator.transport.traffic import LinkState, Traffic, register


def test_a_distribution_counts_what_is_no_longer_than_each_bound() -> None:
    """A duration belongs to the first bucket whose bound it does not exceed; buckets add up."""
    histogram = Histogram((0.001, 0.01))
    for seconds in (0.0005, 0.001, 0.0011, 5.0):
        histogram.observe(seconds)
    metrics = Metrics()
    metrics.histogram("some_seconds", "Some.", histogram)
    assert metrics.render().splitlines() == [
        "# HELP some_seconds Some.",
        "# TYPE some_seconds histogram",
        'some_seconds_bucket{le="0.001"} 2',
        'some_seconds_bucket{le="0.01"} 3',
        'some_seconds_bucket{le="+Inf"} 4',
        "some_seconds_sum 5.0026",
        "some_seconds_count 4",
    ]


def test_disks_are_counted_in_etcds_buckets() -> None:
    """The bounds of a disk's durations are those that dashboards made for etcd expect."""
    assert [f"{bound:g}" for bound in DISK_BOUNDS] == (
        "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192"
    ).split()


def test_links_have_metrics() -> None:
    """Each figure of a link is a metric with the other member's id; unknown round trips are left
    out."""
    metrics = Metrics()
    states = [
        LinkState(10, True, Traffic(1, 2, 3, 4, 5), 0.25),
        LinkState(11, False, Traffic(), None),
    ]
    register(metrics, 9, lambda: states)
    lines = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(
        (
            'etcd_network_active_peers{Local="9",Remote="a"} 1',
            'etcd_network_active_peers{Local="9",Remote="b"} 0',
            'coordinator_peer_round_trip_seconds{To="a"} 0.25',
            'etcd_network_peer_sent_bytes_total{To="a"} 2',
            'etcd_network_peer_sent_bytes_total{To="b"} 0',
            'etcd_network_peer_received_bytes_total{From="a"} 4',
            'etcd_network_peer_received_bytes_total{From="b"} 0',
            'etcd_network_peer_sent_failures_total{To="a"} 5',
            'etcd_network_peer_sent_failures_total{To="b"} 0',
            'coordinator_peer_sent_frames_total{To="a"} 1',
            'coordinator_peer_sent_frames_total{To="b"} 0',
            'coordinator_peer_received_frames_total{From="a"} 3',
            'coordinator_peer_received_frames_total{From="b"} 0',
        )
    )
