"""Health, version and metrics, in the shape that etcd's tools expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response

from coordinator import __version__
from coordinator.metrics import CONTENT_TYPE, Metrics, by_label, register_process
from coordinator.tls.metrics import register as register_tls
from coordinator.transport.traffic import register as register_links

if TYPE_CHECKING:
    from coordinator.api.serving import Serving
    from coordinator.node.node import Node

ETCD_VERSION = "3.4.23"
"""The version of etcd whose behaviour the keyspace has."""
_NO_STORE = {"cache-control": "no-store"}

router = APIRouter(tags=["Health"])


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, _NO_STORE, "application/json")


def checks(node: Node) -> dict[str, str]:
    """Give every readiness check: ``ok``, or what is wrong."""
    alarms = node.alarms()
    return {
        "running": "stopping" if node.is_stopping else "ok" if node.failure is None else "failed",
        "leader": "ok" if node.is_ready() else "no leader",
        "corruption": "CORRUPT alarm" if "CORRUPT" in alarms else "ok",
    }


@router.get("/health", summary="Whether it serves, as etcd tells it", operation_id="health")
async def health(request: Request) -> Response:
    """Answer 200 with ``{"health": "true"}``, or 503 with ``"false"`` and the reason."""
    node: Node = request.app.state.node
    wrong = [what for what in checks(node).values() if what != "ok"]
    if "NOSPACE" in node.alarms():
        wrong.append("NOSPACE alarm")
    if wrong:
        return _json({"health": "false", "reason": "; ".join(wrong)}, 503)
    return _json({"health": "true"})


@router.get("/livez", summary="Whether the process is alive", operation_id="livez")
async def livez(request: Request) -> Response:
    """Answer 200 unless the member has failed for good: then a restart helps."""
    node: Node = request.app.state.node
    if node.failure is not None:
        return Response("failed\n", 503, _NO_STORE, "text/plain")
    return Response("ok\n", 200, _NO_STORE, "text/plain")


@router.get("/readyz", summary="Whether it serves reads and writes", operation_id="readyz")
async def readyz(request: Request, verbose: str | None = None) -> Response:
    """Answer 200 or 503; with ``?verbose`` one line for each check."""
    found = checks(request.app.state.node)
    is_ready = all(what == "ok" for what in found.values())
    lines = "ok\n" if is_ready else "not ready\n"
    if verbose is not None or not is_ready:
        lines = "".join(
            f"[{'+' if what == 'ok' else '-'}]{name} {what}\n" for name, what in found.items()
        )
    return Response(lines, 200 if is_ready else 503, _NO_STORE, "text/plain")


@router.get("/version", summary="Versions", operation_id="version")
async def version(request: Request) -> Response:
    """Tell the version of etcd that it behaves like; this program's is in a header.

    Some of etcd's clients do without a member whose answer has one more field.
    """
    cluster = ETCD_VERSION.rpartition(".")[0] + ".0"
    answer = _json({"etcdserver": ETCD_VERSION, "etcdcluster": cluster})
    answer.headers["coordinator-version"] = __version__
    return answer


@router.get("/metrics", summary="Metrics for Prometheus", operation_id="metrics")
async def metrics(request: Request) -> Response:
    """Write every metric in the text format."""
    registry: Metrics = request.app.state.metrics
    return Response(registry.render(), 200, _NO_STORE, CONTENT_TYPE)


def register(metrics: Metrics, serving: Serving) -> None:
    """Register the metrics of a member; etcd's names where they mean the same."""
    register_process(metrics)
    node = serving.node
    peer = node.peer_credentials
    register_tls(metrics, lambda: [*serving.credentials, *([peer] if peer else [])])
    register_links(metrics, node.member_id, node.group.links)
    metrics.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "Writing a batch to the log and syncing it.",
        node.group.sync_times,
    )
    gauge, counter = metrics.gauge, metrics.counter
    gauge(
        "etcd_server_has_leader",
        "Whether a leader is known.",
        lambda: float(node.status().leader != 0),
    )
    gauge(
        "etcd_server_is_leader",
        "Whether this member leads.",
        lambda: float(node.status().leader == node.member_id),
    )
    counter(
        "etcd_server_proposals_applied_total",
        "Entries applied.",
        lambda: node.status().applied_index,
    )
    counter(
        "etcd_server_proposals_committed_total", "Entries in the log.", lambda: node.status().index
    )
    gauge("etcd_debugging_mvcc_keys_total", "Live keys.", lambda: node.status().live_keys)
    gauge("etcd_debugging_mvcc_current_revision", "Published revision.", lambda: node.revision)
    gauge(
        "etcd_debugging_mvcc_compact_revision",
        "Compact revision.",
        lambda: node.status().compact_revision,
    )
    gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes that count for the quota.",
        lambda: node.status().bytes_used,
    )
    gauge("etcd_server_quota_backend_bytes", "The quota.", lambda: node.status().bytes_quota)
    gauge("etcd_debugging_mvcc_watcher_total", "Watches.", lambda: node.status().watches)
    gauge("coordinator_leases", "Leases and sessions.", lambda: node.status().leases)
    gauge("coordinator_raft_term", "Term.", lambda: node.term)
    _register_clients(metrics, serving)


def _register_clients(metrics: Metrics, serving: Serving) -> None:
    gauge, counter = metrics.gauge, metrics.counter
    census, shares = serving.census, serving.shares
    gauge("coordinator_connections", "Open connections.", lambda: census.connections)
    counter("coordinator_connections_refused_total", "Refused ones.", lambda: census.refused)
    gauge(
        "coordinator_unfinished_request_bytes",
        "What clients have sent of requests that are not whole.",
        lambda: serving.unfinished.held_bytes,
    )
    counter(
        "coordinator_unfinished_requests_dropped_total",
        "Connections that were ended because that was too much.",
        lambda: serving.unfinished.dropped,
    )
    gauge(
        "coordinator_streams", "Watches, subscriptions and the like.", lambda: shares.streams.total
    )
    gauge(
        "coordinator_http_streams",
        "Those over plain HTTP.",
        lambda: shares.http_streams.total,
    )
    counter(
        "coordinator_over_share_total",
        "What was refused because a user, or all, had too many, by what it was.",
        lambda: by_label("what", shares.refused()),
    )
    gauge("coordinator_websockets", "Open WebSockets.", lambda: len(serving.websockets))
    gauge(
        "coordinator_requests_in_flight",
        "Requests of WebSockets without an answer.",
        lambda: sum(one.in_flight for one in serving.websockets),
    )
    counter(
        "coordinator_requests_total",
        "Requests by operation.",
        lambda: by_label("operation", serving.dispatcher.served),
    )
