"""A connection without a network, over a node that only takes note."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hpack

from coordinator.api.census import Census
from coordinator.api.limits import Limits
from coordinator.api.protocol import HTTP2_PREFACE
from coordinator.api.registry import Caller
from coordinator.api.shares import Shares
from coordinator.api.unfinished import UnfinishedRequests
from coordinator.etcd import frames
from coordinator.etcd.http2 import Http2Connection
from coordinator.etcd.services import http2, services
from coordinator.replica.requests import Outcome
from coordinator_sdk.protocol.kv import PutResult


class MemoryNode:
    """Takes proposals; `settle` applies them all."""

    cluster_id, member_id, term, revision = 1 << 62, 1 << 61, 3, 100

    def __init__(self) -> None:
        self.machine = SimpleNamespace(auth=SimpleNamespace(enabled=False, revision=1))
        self.on_tick: list[Callable[[], None]] = []
        self.config = SimpleNamespace(election_timeout_ms=1000, data_dir="/nonexistent")
        self.group = SimpleNamespace(absence=SimpleNamespace(told=[]))
        self.hub = SimpleNamespace(is_lagging=False, revision=100, remove=lambda sink: None)
        self.proposed: list[Callable[[Outcome], None]] = []
        self.work: list[Callable[[], None]] = []

    def propose(self, body: Any, *, done: Callable[[Outcome], None], **who: Any) -> None:
        """Take a proposal."""
        self.proposed.append(done)

    def read(self, done: Callable[[Any], None], **how: Any) -> None:
        """Refuse every read."""
        done(RuntimeError("nothing is read here"))

    def soon(self, work: Callable[[], None]) -> None:
        """Take what is to be done at the end of the turn."""
        self.work.append(work)

    def settle(self) -> None:
        """Apply what was proposed, and end the turn."""
        proposed, self.proposed = self.proposed, []
        for done in proposed:
            done(Outcome(101, PutResult(101)))
        work, self.work = self.work, []
        for one in work:
            one()


class MemoryTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """Take note."""
        self.is_closed = True

    abort = close

    def can_write_eof(self) -> bool:
        """It cannot be half closed."""
        return False

    def set_write_buffer_limits(self, high: int = 0) -> None:
        """Nothing is buffered."""

    def get_extra_info(self, name: str) -> Any:
        """Tell where the client is."""
        return ("127.0.0.1", 1)

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Take what was written, frame by frame: kind, flags, stream, payload."""
        found, data, at = [], bytes(self.written), 0
        self.written.clear()
        while at < len(data):
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            found.append((data[at + 3], data[at + 4], stream, data[at + 9 : end]))
            at = end
        assert at == len(data), "frames are written whole"
        return found


class Memory:
    """A greeted connection. Must be made while an event loop runs, and closed."""

    def __init__(self, limits: Limits | None = None, *, greets: bool = True) -> None:
        self.node = MemoryNode()
        self.transport = MemoryTransport()
        self.encoder = hpack.Encoder()
        limits = limits or Limits()
        node: Any = self.node
        shares = Shares(node, limits)
        place = Census(limits, shares).admit("127.0.0.1", self.transport)
        assert place is not None
        identity: Any = SimpleNamespace(
            identify=lambda token, origin, tls: Caller(origin=origin), logouts=0
        )
        serving: Any = SimpleNamespace(
            node=self.node,
            limits=limits,
            identity=identity,
            unfinished=UnfinishedRequests(limits.unfinished_bytes),
        )
        backups: Any = None
        calls = services(node, limits, backups, identity, shares)
        made = http2(serving, calls)(set(), ("127.0.0.1", 4000), place)
        assert isinstance(made, Http2Connection)
        self.connection = made
        made.connection_made(self.transport)  # type: ignore[arg-type]
        if greets:
            made.data_received(HTTP2_PREFACE + frames.settings_frame({}))
            made.data_received(frames.window_update(0, 1 << 30))
            self.transport.frames()

    def headers(self, path: str) -> bytes:
        """Encode the headers of a call."""
        encoded: bytes = self.encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                ("content-type", "application/grpc"),
            ]
        )
        return encoded

    def close(self) -> None:
        """Let go of timers."""
        self.connection.connection_lost(None)


def in_a_loop(work: Callable[[], None]) -> None:
    """Run plain code while an event loop runs."""

    async def run() -> None:
        work()

    asyncio.run(run())
