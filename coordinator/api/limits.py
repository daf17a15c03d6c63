"""What one client, or all of them, may ask of a member: every limit, its name, its number."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from coordinator.config import Config


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all of them, may ask of a member. Sizes in bytes, times in seconds.

    Attributes:
        request_bytes: One request, as MessagePack.
        txn_ops: Operations in one transaction, and compares in one.
        txn_depth: Transactions inside transactions.
        connections: Open connections of all clients.
        connections_reserve: More of them, for clients on this machine.
        connections_per_address: Open connections of one address that is not this machine.
        connections_for_root: More of them, for root; only with authentication.
        handshakes: Those that have not agreed on TLS yet, and are no connections yet.
        refusals: Those that there is no room for, and that may take a moment to read so.
        connections_per_user: Open connections on which one user has shown who it is.
        in_flight: Requests of one connection without an answer; more wait.
        streams_per_connection: Watches, subscriptions and the like of one connection.
        streams: Those of all connections.
        streams_reserve: More of them, for root; without authentication, for this machine.
        streams_per_user: Those of one user; without authentication, of one other machine.
        http_streams: Streams over plain HTTP.
        http_streams_reserve: More of them, as `streams_reserve`.
        http_streams_per_user: Those of one user, as `streams_per_user`.
        leases: Leases, sessions included, of all users.
        leases_reserve: More of them, as `streams_reserve`.
        leases_per_user: Those of one user.
        records_per_user: What one user's sessions may hold, await and register, in records.
        output_bytes: What a client may leave unread before it is cut off.
        unfinished_bytes: What all clients together may have sent of requests that are not whole.
        fragments: Parts of one WebSocket message.
        control_frames: WebSocket pings and pongs between two of our own pings.
        ping_s: Pause between our pings.
        silence_s: Without a sign of life for so long, a connection is closed.
        greeting_s: How long a WebSocket may take to greet.
        header_s: How long an HTTP request's headers may take.
        body_s: How long an HTTP request's body may take.
        keep_alive_s: How long an HTTP connection may idle between requests.
        header_bytes: Size of an HTTP request's headers.
        headers: Their number.
    """

    request_bytes: int = 1_572_864
    txn_ops: int = 128
    txn_depth: int = 8
    connections: int = 10_000
    connections_reserve: int = 16
    connections_for_root: int = 16
    connections_per_address: int = 5_000
    handshakes: int = 1024
    refusals: int = 256
    connections_per_user: int = 5_000
    in_flight: int = 1024
    streams_per_connection: int = 10_000
    streams: int = 200_000
    streams_reserve: int = 1000
    streams_per_user: int = 100_000
    http_streams: int = 1000
    http_streams_reserve: int = 16
    http_streams_per_user: int = 500
    leases: int = 1_000_000
    leases_reserve: int = 1000
    leases_per_user: int = 500_000
    records_per_user: int = 1_000_000
    output_bytes: int = 67_108_864
    unfinished_bytes: int = 12_582_912
    fragments: int = 1024
    control_frames: int = 128
    ping_s: float = 10.0
    silence_s: float = 30.0
    greeting_s: float = 10.0
    header_s: float = 10.0
    body_s: float = 30.0
    keep_alive_s: float = 75.0
    header_bytes: int = 32_768
    headers: int = 100

    @property
    def message_bytes(self) -> int:
        """A WebSocket message in MessagePack: the largest request and its envelope."""
        return self.request_bytes + 65_536

    @property
    def text_bytes(self) -> int:
        """A body or message in which bytes travel as base64."""
        return self.request_bytes * 4 // 3 + 65_536


def limits_of(config: Config) -> Limits:
    """Take the limits that are settings from the configuration, and those of the process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 1 << 20
    return Limits(
        request_bytes=config.max_request_bytes,
        txn_ops=config.max_txn_ops,
        connections=config.max_connections,
        connections_per_address=config.max_connections_per_address,
        connections_per_user=config.max_connections_per_user or max(1, config.max_connections // 2),
        in_flight=config.max_in_flight,
        handshakes=min(1024, max(16, files // 16)),
        refusals=min(256, max(8, files // 32)),
        streams_per_connection=config.max_streams_per_connection,
        streams=config.max_streams,
        streams_per_user=config.max_streams_per_user,
        leases=config.max_leases,
        leases_per_user=config.max_leases_per_user or max(1, config.max_leases // 2),
        records_per_user=config.max_session_records_per_user,
        output_bytes=config.max_unread_bytes,
        # Some requests of the largest size must fit in any case.
        unfinished_bytes=max(config.max_unfinished_bytes, 4 * config.max_request_bytes),
        ping_s=config.ping_interval / 1000,
        silence_s=config.silence_timeout / 1000,
        header_s=config.header_timeout / 1000,
        body_s=config.body_timeout / 1000,
        keep_alive_s=config.keep_alive_timeout / 1000,
    )
