"""Calls without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from coordinator.etcd.grpc import GrpcStream


def test_a_large_answer_is_not_copied_for_each_frame() -> None:
    """What has not been sent yet of a message is a view of it: its time grows with its size, not
    with the square of that."""
    sent: list[bytes] = []
    connection: Any = SimpleNamespace(
        initial_window=65_535,
        limits=SimpleNamespace(request_bytes=1, output_bytes=1 << 30),
        send_window=1 << 30,
        frame_max=16_384,
        queued_bytes=0,
        write=sent.append,
        answered=lambda count: None,
        block=lambda stream: None,
    )
    stream = GrpcStream(connection, 1, None)
    payload = bytes(range(256)) * 4096
    stream.send(payload)
    assert stream._pending is not None
    rest = stream._pending[0]
    assert isinstance(rest, memoryview)
    stream.send_window = 1 << 30
    while stream.pump():
        left = stream._pending[0]
        assert isinstance(left, memoryview)
        assert left.obj is rest.obj
    body = b"".join(frame[9:] for frame in sent[1:])
    assert body == b"\0" + len(payload).to_bytes(4, "big") + payload
    assert connection.queued_bytes == 0
