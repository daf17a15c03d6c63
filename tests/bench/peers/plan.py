"""Which workload is compared with whom and by which figure; what is left out, and why."""

from __future__ import annotations

from dataclasses import dataclass

TITLES = {
    "etcd": "etcd, aetcd",
    "etcd/own": "etcd, aetcd's own `Lock`",
    "redis": "Redis, redis-py",
    "redis/pipelined": "Redis, redis-py, pipelined by hand",
    "redis/impatient": "Redis, redis-py, asking every 10 ms",
    "redis/streams": "Redis streams, redis-py",
    "zookeeper": "ZooKeeper, kazoo",
    "zookeeper/synced": "ZooKeeper, kazoo, `sync` before each read",
}
"""A server with a client, and after a slash a special way of using them."""


@dataclass(frozen=True)
class Compared:
    """One workload: the figure that counts, and against whom."""

    title: str
    figure: str
    unit: str
    against: tuple[str, ...]
    workload: str
    members: int = 1


COMPARED: dict[str, Compared] = {
    "put_c1": Compared(
        "put, one caller", "p50_ms", "ms p50", ("etcd", "redis", "zookeeper"), "put_c1"
    ),
    "put_c64": Compared(
        "put, 64 callers",
        "puts_per_s",
        "/s",
        ("etcd", "redis", "redis/pipelined", "zookeeper"),
        "put_c64",
    ),
    "get_c64": Compared(
        "linearizable get, 64 callers",
        "gets_per_s",
        "/s",
        ("etcd", "redis", "redis/pipelined", "zookeeper"),
        "get_c64",
    ),
    "lock_uncontended": Compared(
        "lock acquire and release, one caller",
        "pairs_per_s",
        "pairs/s",
        ("etcd", "etcd/own", "redis", "zookeeper"),
        "lock_uncontended",
    ),
    "lock_handover": Compared(
        "lock hand-over to the next of 10 waiters",
        "p50_ms",
        "ms p50",
        ("etcd", "etcd/own", "redis", "redis/impatient", "zookeeper"),
        "lock_handover",
    ),
    "lock_closed": Compared(
        "10 clients looping on one lock",
        "handovers_per_s",
        "hand-overs/s",
        ("etcd", "etcd/own", "redis", "redis/impatient", "zookeeper"),
        "lock_closed",
    ),
    "fanout": Compared(
        "event to 1,000 watchers over 10 connections",
        "deliveries_per_s",
        "deliveries/s",
        ("etcd",),
        "fanout",
    ),
    "list_1000": Compared(
        "list 1,000 instances", "lists_per_s", "/s", ("etcd", "redis", "zookeeper"), "list_1000"
    ),
    "pubsub": Compared(
        "publish to subscriber, 64 publishers",
        "messages_per_s",
        "messages/s",
        ("etcd", "redis", "redis/pipelined", "redis/streams"),
        "pubsub",
    ),
    "put_c1_on_three": Compared(
        "put, one caller; three members", "p50_ms", "ms p50", ("etcd", "zookeeper"), "put_c1", 3
    ),
    "put_c64_on_three": Compared(
        "put, 64 callers; three members", "puts_per_s", "/s", ("etcd", "zookeeper"), "put_c64", 3
    ),
    "get_c64_on_three": Compared(
        "linearizable get, 64 callers; three members",
        "gets_per_s",
        "/s",
        ("etcd", "zookeeper/synced"),
        "get_c64",
        3,
    ),
}

LEFT_OUT = (
    ("Consul", "all", "no package registry that is used here has its server"),
    (
        "Redis",
        "event to 1,000 watchers",
        "a connection has one subscription to a channel, so 10 connections get 10 messages",
    ),
    ("Redis", "three members", "its replicas do not agree on a write before it is answered"),
    (
        "ZooKeeper",
        "event to 1,000 watchers",
        "a watch fires once and the client reads again, so values are skipped",
    ),
    ("ZooKeeper", "publish to subscriber", "it has no messages, and its watches skip values"),
)
"""What is not measured, whoever runs it: the peer, the workload, and why."""


def ratio(ours: float, theirs: float) -> float:
    """Give how many times theirs our figure is."""
    if theirs <= 0:
        raise ValueError(f"a figure of a peer must be above 0, not {theirs}")
    return ours / theirs


def missed(value: float, goal: dict[str, float]) -> bool:
    """Tell whether a ratio misses its goal, `min` for rates and `max` for times."""
    return value < goal.get("min", value) or value > goal.get("max", value)
