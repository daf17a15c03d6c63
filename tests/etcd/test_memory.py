"""The HTTP/2 connection without a network: windows, counters, and whatever bytes may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.protocol import HTTP2_PREFACE
from coordinator.etcd import frames
from coordinator.etcd.frames import H2Error
from coordinator.etcd.messages import METHODS
from tests.api.member import few
from tests.etcd.memory import Memory, in_a_loop

PUT, WATCH = "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"


def put(memory: Memory, stream: int) -> bytes:
    """Write a whole put."""
    message = METHODS[PUT].request(key=b"k").SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return frames.frame(
        frames.HEADERS, frames.END_HEADERS, stream, memory.headers(PUT)
    ) + frames.frame(frames.DATA, frames.END_STREAM, stream, body)


async def test_what_one_turn_brings_is_one_write() -> None:
    """Many calls read at once are answered in one write, three frames for each."""
    memory = Memory()
    memory.connection.data_received(b"".join(put(memory, 2 * n + 1) for n in range(50)))
    assert len(memory.node.proposed) == 50
    memory.node.settle()
    written = memory.transport.frames()
    assert [frame[0] for frame in written] == [frames.HEADERS, frames.DATA, frames.HEADERS] * 50
    memory.close()


async def test_a_client_keeps_to_the_window_of_a_stream() -> None:
    """Data beyond the window of a stream resets it; beyond that of the connection, ends it."""
    memory = Memory()
    memory.connection.data_received(
        frames.frame(frames.HEADERS, frames.END_HEADERS, 1, memory.headers(WATCH))
    )
    memory.connection._streams[1]._receive_window = 100  # type: ignore[attr-defined]
    memory.connection.data_received(frames.frame(frames.DATA, 0, 1, bytes(101)))
    (frame,) = memory.transport.frames()
    assert frame[0] == frames.RST_STREAM
    assert int.from_bytes(frame[3], "big") == H2Error.FLOW_CONTROL_ERROR
    memory.connection._receive_window = 100
    memory.connection.data_received(frames.frame(frames.DATA, 0, 1, bytes(101)))
    frame = memory.transport.frames()[-1]
    assert frame[0] == frames.GOAWAY
    assert int.from_bytes(frame[3][4:8], "big") == H2Error.FLOW_CONTROL_ERROR
    assert memory.transport.is_closed
    memory.close()


async def test_unfinished_messages_have_a_limit_in_bytes() -> None:
    """All unfinished messages of a connection together have a limit; then the last is refused."""
    memory = Memory(few(output_bytes=100_000))
    piece = b"\0\0\x10\0\0" + bytes(16_379)
    for number in range(7):
        stream = 2 * number + 1
        memory.connection.data_received(
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, memory.headers(PUT))
            + frames.frame(frames.DATA, 0, stream, piece)
        )
    assert memory.connection.held_bytes <= 100_000
    assert {frame[2] for frame in memory.transport.frames() if frame[2]} == {13}
    memory.close()


async def test_windows_granted_with_each_call_are_no_flood() -> None:
    """Clients that grant every stream its window at once may begin any number of calls."""
    memory = Memory()
    memory.connection.data_received(
        b"".join(
            put(memory, 2 * n + 1) + 3 * frames.window_update(2 * n + 1, 5) for n in range(3000)
        )
    )
    assert len(memory.node.proposed) == 3000
    memory.node.settle()
    assert not memory.transport.is_closed
    memory.close()


async def test_work_for_reset_calls_counts_until_it_is_done() -> None:
    """Who resets its calls while they are worked on cannot have more of them under way."""
    memory = Memory(few(streams_per_connection=5))
    cancel = H2Error.CANCEL.to_bytes(4, "big")
    for number in range(8):
        stream = 2 * number + 1
        memory.connection.data_received(
            put(memory, stream) + frames.frame(frames.RST_STREAM, 0, stream, cancel)
        )
    assert len(memory.node.proposed) == 5
    refused = [frame for frame in memory.transport.frames() if frame[0] == frames.RST_STREAM]
    assert [frame[2] for frame in refused] == [11, 13, 15]
    memory.node.settle()
    memory.connection.data_received(put(memory, 17))
    assert len(memory.node.proposed) == 1
    memory.close()


async def test_an_answer_without_a_window_waits() -> None:
    """A unary answer that does not fit into the windows is sent as they grow, frame by frame."""
    memory = Memory()
    memory.connection.initial_window = 0
    memory.connection.data_received(put(memory, 1))
    memory.node.settle()
    (head,) = memory.transport.frames()
    assert head[0] == frames.HEADERS
    memory.connection.data_received(frames.window_update(1, 7))
    (data,) = memory.transport.frames()
    assert (data[0], len(data[3])) == (frames.DATA, 7)
    memory.connection.data_received(frames.window_update(1, 1000))
    assert [frame[0] for frame in memory.transport.frames()] == [frames.DATA, frames.HEADERS]
    assert not memory.connection._streams
    assert memory.connection.queued_bytes == 0
    memory.close()


# ---------------------------------------------------------------- whatever may come


_FRAMES = st.builds(
    frames.frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x2D, 0xFF]),
    st.integers(0, 9),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([bytes(8), b"\0\0\0\x09", b"\x88", b"\0\0\0\0\x02\x0a\0"]),
    ),
)


@given(st.lists(_FRAMES, max_size=30), st.integers(1, 50))
def test_no_sequence_of_frames_breaks_the_server(sent: list[bytes], size: int) -> None:
    """Any frames, in any pieces, are answered by whole frames or an end, never by a failure."""

    def work() -> None:
        memory = Memory()
        data = b"".join(sent)
        for at in range(0, len(data), size):
            memory.connection.data_received(data[at : at + size])
            memory.node.settle()
        memory.transport.frames()
        memory.close()
        assert memory.connection.held_bytes == 0
        assert memory.connection.queued_bytes == 0

    in_a_loop(work)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_the_server(data: bytes, after_preface: bool) -> None:
    """Bytes that mean nothing end the connection, and nothing else."""

    def work() -> None:
        memory = Memory(greets=False)
        memory.connection.data_received(HTTP2_PREFACE + data if after_preface else data)
        memory.close()

    in_a_loop(work)


@pytest.mark.slow
@given(st.data())
def test_mutated_conversations_do_not_break_the_server(data: st.DataObject) -> None:
    """A valid conversation in which bytes were changed is survived."""

    def work() -> None:
        memory = Memory()
        whole = bytearray(b"".join(put(memory, 2 * n + 1) for n in range(5)))
        for _ in range(data.draw(st.integers(1, 5))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        memory.connection.data_received(bytes(whole))
        memory.node.settle()
        memory.transport.frames()
        memory.close()

    in_a_loop(work)
