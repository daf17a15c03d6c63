"""HTTP/2 for a server: one connection, its frames, its windows and its limits.

Whatever is read in one go is answered in one write, and so is whatever one turn of the node
brings. Everything a client can make us keep or do is bounded: streams, headers, frames that ask
for nothing, resets, bytes of unfinished messages, bytes it does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from coordinator.api.protocol import HTTP2_PREFACE, part_with
from coordinator.etcd import frames
from coordinator.etcd.asking import Asking
from coordinator.etcd.frames import ConnectionBroken, H2Error, StreamBroken
from coordinator.etcd.headers import Head, HeadReader, check_trailers
from coordinator.etcd.outgoing import PATIENCE, RESETS, WRITE_HIGH_BYTES, Outgoing, Stream

if TYPE_CHECKING:
    from coordinator.api.census import Place
    from coordinator.api.serving import Serving
    from coordinator_sdk.errors import Exhausted

CONNECTION_WINDOW: Final = 8 << 20
"""Bytes of requests that may be on their way to us."""
CONTINUATIONS_MAX: Final = 16
_PING = b"coordctr"


MakeStream = Callable[["Http2Connection", int, Head], Stream]


class Http2Connection(Outgoing):
    """One client.

    Args:
        serving: What all connections share.
        make_stream: Makes a stream of a request's headers.
        everyone: Every connection of the server, as uvicorn keeps them.
        client: Host and port of the client; its connection does not tell them once it is reset.
        place: What the connection takes of those that there may be.
    """

    def __init__(
        self,
        serving: Serving,
        make_stream: MakeStream,
        everyone: set[Any],
        client: tuple[str, int],
        place: Place,
    ) -> None:
        super().__init__(serving.node, serving.limits)
        self._serving = serving
        self._make_stream = make_stream
        self._everyone = everyone
        self._host = client[0]
        self._place = place
        self.address = f"{client[0]}:{client[1]}"
        self._loop = asyncio.get_running_loop()
        self._reader = HeadReader(self.limits.header_bytes)
        self._rest = b""
        self._last_stream = 0
        self._block: tuple[int, int, list[bytes]] | None = None
        self._block_bytes = 0
        self._receive_window = frames.DEFAULT_WINDOW
        self._has_preface = self._is_unfinished = False
        self._has_settings = False
        self._silence_s = 0.0
        self._stalled_s = 0.0
        self._stalled_at = 0
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------- coming and going

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over an admitted connection, and say what we allow."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._everyone.add(self)
        self.asking = Asking(
            self.node, self._serving.identity, transport, self.address, self._place
        )
        self._timer = self._loop.call_later(self.limits.header_s, self._no_settings)
        self._receive_window = CONNECTION_WINDOW
        self.transport.write(
            frames.settings_frame(
                {
                    frames.MAX_CONCURRENT_STREAMS: self.limits.streams_per_connection,
                    frames.INITIAL_WINDOW_SIZE: frames.STREAM_WINDOW,
                    frames.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._everyone.discard(self)
        self._place.leave()
        self._end()

    def eof_received(self) -> bool:
        """The client sends no more: neither is it waited for."""
        return False

    def _end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.abandon()
        self._rest, self._block = b"", None
        self.count_held()
        self._blocked.clear()
        self._deferred.clear()

    def shutdown(self) -> None:
        """The server stops: take no more calls, end the streams, and close."""
        if self._is_closed or self._is_leaving:
            return
        self._is_leaving = True
        self.write(frames.goaway(self._last_stream, H2Error.NO_ERROR, "the member is stopping"))
        for stream in list(self._streams.values()):
            stream.stop()
        self._leave()

    def _break(self, error: ConnectionBroken) -> None:
        """The client broke the rules: say why, and close."""
        if self._is_closed:
            return
        self._out.append(frames.goaway(self._last_stream, error.code, error.reason))
        self.flush()
        self._end()
        part_with(self.transport, self._loop)

    # ------------------------------------------------------------- liveness

    def _no_settings(self) -> None:
        self._timer = None
        if not self._has_settings:
            self.transport.abort()
            return
        self._tick()

    def _tick(self) -> None:
        """Ping, and close who is silent or does not read."""
        limits = self.limits
        self._timer = self._loop.call_later(limits.ping_s, self._tick)
        self._patience = max(self._patience, PATIENCE)
        self._resets = max(self._resets, RESETS)
        waiting = self.transport.get_write_buffer_size() + self.queued_bytes
        self._stalled_s = self._stalled_s + limits.ping_s if self._is_stuck(waiting) else 0.0
        self._stalled_at = waiting
        self._silence_s += limits.ping_s
        if max(self._silence_s, self._stalled_s) > limits.silence_s:
            self.transport.abort()
            return
        self.write(frames.frame(frames.PING, 0, 0, _PING))

    def _is_stuck(self, waiting: int) -> bool:
        return waiting > WRITE_HIGH_BYTES and waiting >= self._stalled_at

    def _waste(self, amount: int = 1) -> None:
        """Count a frame that asks for nothing.

        Raises:
            ConnectionBroken: There were too many.
        """
        self._patience -= amount
        if self._patience < 0:
            raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "too many frames without use")

    # ------------------------------------------------------------- reading

    def data_received(self, data: bytes) -> None:
        """Take in whole frames; the rest waits for more."""
        if self._is_closed:
            return
        self._silence_s = 0.0
        if self._rest:
            data = self._rest + data
        if not self._has_preface:
            length = len(HTTP2_PREFACE)
            if not data.startswith(HTTP2_PREFACE[: len(data)]):
                self.transport.abort()
                return
            if len(data) < length:
                self._rest = data
                return
            self._has_preface = True
            data = data[length:]
        self._is_reading = True
        try:
            self._rest = data[self._take_frames(data) :]
        except ConnectionBroken as error:
            self._break(error)
        finally:
            self._is_reading = False
        if not self._is_closed:
            self.count_held()
            self._replenish()
            self.flush()

    def count_held(self) -> None:
        """Note how much the connection holds of requests to come: frames, headers and messages."""
        held = self.held_bytes + len(self._rest) + (self._block_bytes if self._block else 0)
        if held or self._is_unfinished:
            self._is_unfinished = held > 0
            self._serving.unfinished.hold(self, self._host, held)

    def give_up(self, error: Exhausted) -> None:
        """Make room: too much is held of requests that do not come whole."""
        text = f"{error.message} ({error.details['limit']})"
        self._break(ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, text))

    def _take_frames(self, data: bytes) -> int:
        """Serve every whole frame; give the number of bytes used."""
        at, end = 0, len(data)
        while end - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > frames.FRAME_BYTES_MIN:
                raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "a frame is too large")
            body = at + 9
            stop = body + length
            if stop > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : body], "big") & frames.WINDOW_MAX
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "a header block is interrupted")
            if kind == frames.DATA:
                self._data(flags, stream, data[body:stop])
            elif kind == frames.HEADERS:
                self._headers(flags, stream, data[body:stop])
            else:
                self._other(kind, flags, stream, data[body:stop])
            at = stop
            if self._is_closed:
                return end
        return at

    def _other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self._has_settings and kind != frames.SETTINGS:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == frames.WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, stream, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == frames.PING:
            self._ping(flags, stream, payload)
        elif kind == frames.RST_STREAM:
            self._reset(stream, payload)
        elif kind == frames.PRIORITY:
            if stream == 0:
                raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "PRIORITY without a stream")
            if len(payload) != 5:
                raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
            self._waste()
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "clients do not push")
        elif kind == frames.GOAWAY:
            if stream or len(payload) < 8:
                raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "GOAWAY is malformed")
            self._is_leaving = True
            self._leave()
        else:
            self._waste()  # Unknown kinds are to be ignored.

    # ------------------------------------------------------------- requests

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not self._has_settings:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if stream % 2 == 0:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "clients have odd streams")
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.header_block(flags, stream, payload)
        if flags & frames.END_HEADERS:
            self._request(flags, stream, payload)
        else:
            self._block = (flags, stream, [payload])
            self._block_bytes = len(payload)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != stream:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "CONTINUATION of nothing")
        first, _, parts = self._block
        parts.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self.limits.header_bytes or len(parts) > CONTINUATIONS_MAX:
            raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._request(first, stream, b"".join(parts))

    def _request(self, flags: int, stream: int, block: bytes) -> None:
        if len(block) > self.limits.header_bytes:
            raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "the headers are too large")
        is_last = bool(flags & frames.END_STREAM)
        if stream <= self._last_stream:
            self._trailers(stream, block, is_last)
            return
        self._last_stream = stream
        try:
            head = self._reader.read(block)
        except StreamBroken as error:
            self.write(frames.reset(stream, error.code))
            self._waste()
            return
        if self._is_leaving:
            return
        if len(self._streams) + self._departed >= self.limits.streams_per_connection:
            self.write(frames.reset(stream, H2Error.REFUSED_STREAM))
            self._waste()
            return
        # Clients grant windows with every call, and some as soon as they begin it.
        self.answered(2)
        made = self._make_stream(self, stream, head)
        if made.is_closed:
            return
        self._streams[stream] = made
        if is_last:
            made.take(b"", True)

    def _trailers(self, stream: int, block: bytes, is_last: bool) -> None:
        headers = self._reader.decode(block)
        known = self._streams.get(stream)
        if known is None:
            self._waste()  # It may have been sent before the client heard that the call ended.
            return
        try:
            check_trailers(headers)
            if not is_last:
                raise StreamBroken(H2Error.PROTOCOL_ERROR, "headers amid a request")
        except StreamBroken as error:
            self.reset_stream(known, error.code)
            return
        known.take(b"", True)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        self._receive_window -= len(payload)
        if self._receive_window < 0:
            raise ConnectionBroken(H2Error.FLOW_CONTROL_ERROR, "more data than the window allows")
        known = self._streams.get(stream)
        if known is None:
            if stream == 0 or stream > self._last_stream or stream % 2 == 0:
                raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "data of no stream")
            self._waste()
            return
        if flags & frames.PADDED:
            payload = frames.without_padding(flags, payload)
        is_last = bool(flags & frames.END_STREAM)
        if not payload and not is_last:
            self._waste()
        known.take(payload, is_last)

    def _replenish(self) -> None:
        """Let the client send more, once it has used up half of what it may."""
        if self._receive_window < CONNECTION_WINDOW // 2:
            self._out.append(frames.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW

    def _reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        if stream == 0 or stream > self._last_stream:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "RST_STREAM of no stream")
        known = self._streams.pop(stream, None)
        if known is None:
            self._waste()
            return
        self._resets -= 1
        if self._resets < 0:
            raise ConnectionBroken(H2Error.ENHANCE_YOUR_CALM, "too many calls are reset")
        if known.is_served:
            self._departed += 1
        known.abandon()
        self._leave()

    # ------------------------------------------------------------- the connection itself

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "SETTINGS ACK with a payload")
            return
        found = frames.read_settings(payload)
        if self._has_settings:
            self._waste()
        self._has_settings = True
        if frames.INITIAL_WINDOW_SIZE in found:
            change = found[frames.INITIAL_WINDOW_SIZE] - self.initial_window
            self.initial_window += change
            for one in self._streams.values():
                one.send_window += change
                if one.send_window > frames.WINDOW_MAX:
                    raise ConnectionBroken(H2Error.FLOW_CONTROL_ERROR, "a window is too large")
        self.frame_max = min(found.get(frames.MAX_FRAME_SIZE, self.frame_max), 1 << 16)
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump()

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "PING of a wrong size")
        self._waste()
        if not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(H2Error.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        amount = int.from_bytes(payload, "big") & frames.WINDOW_MAX
        self._waste()
        if stream == 0:
            self.send_window += amount
            if not amount or self.send_window > frames.WINDOW_MAX:
                raise ConnectionBroken(H2Error.FLOW_CONTROL_ERROR, "a window is wrong")
            self._pump()
            return
        known = self._streams.get(stream)
        if known is None:
            if stream > self._last_stream or stream % 2 == 0:
                raise ConnectionBroken(H2Error.PROTOCOL_ERROR, "WINDOW_UPDATE of no stream")
            return
        known.send_window += amount
        if not amount or known.send_window > frames.WINDOW_MAX:
            self.reset_stream(known, H2Error.FLOW_CONTROL_ERROR)
            return
        self._pump()
