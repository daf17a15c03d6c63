"""Frames to bytes and back, in MessagePack and in JSON.

Pure. A server encodes every item once and joins the finished items into a frame; a frame is
decoded in one typed pass, and request by request only if that fails, so that one bad request
costs its sender one error and the other requests nothing.

In JSON the arrays are the same; bytes are base64 strings and ids are 16 hexadecimal digits.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Union

import msgspec
from msgspec import Raw, Struct

from ..errors import CoordinatorError, InvalidRequest, UnknownOperation
from .frames import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, Header, Item
from .shapes import INT64_MAX, Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CODECS", "JSON", "MSGPACK", "Codec", "Request", "RequestDecoder"]

T = TypeVar("T")
BodyT = TypeVar("BodyT")
Buffer = bytes | bytearray | memoryview | Raw

_BAD_INPUT = (ValueError, RecursionError)
"""All that msgspec raises on bytes that it cannot decode."""

_encode_bodies = msgspec.msgpack.Encoder().encode

_BIG_UINT = re.compile(rb"\xcf[\x80-\xff]").search
"""Where a number of 2^63 or more may stand in a MessagePack frame."""


class Request(Struct, Generic[BodyT], array_like=True, gc=False):
    """One request of a client's frame."""

    id: int
    body: BodyT


class _RawRequest(Struct, array_like=True, gc=False):
    id: int
    body: Raw


class Codec(Protocol):
    """Encodes and decodes frames; there is one for each subprotocol."""

    name: str
    """The WebSocket subprotocol."""
    binary: bool
    """Whether frames travel as binary messages; as text otherwise."""

    def encode_result(self, id: int, revision: int, result: Struct | None) -> bytes:
        """Encode the answer to request ``id`` as an item."""

    def encode_failure(self, id: int, error: CoordinatorError) -> bytes:
        """Encode the failure of request ``id``, or the end of stream ``id``, as an item."""

    def encode_value(self, value: Struct) -> bytes:
        """Encode what a stream carries, for any number of `encode_stream` calls."""

    def encode_stream(self, ids: Sequence[int], value: bytes) -> bytes:
        """Encode an item of the streams ``ids`` around an encoded value."""

    def encode_closing(self, error: CoordinatorError, endpoints: Sequence[str] = ()) -> bytes:
        """Encode the notice that the connection is about to be closed, as an item."""

    def join_frame(self, header: Header, items: Sequence[bytes]) -> bytes:
        """Join encoded items into a server's frame."""

    def encode_requests(self, floor: int, requests: Iterable[tuple[int, Struct]]) -> bytes:
        """Encode a client's frame."""

    def decode_frame(self, data: Buffer | str) -> tuple[Header, list[Item]]:
        """Decode a server's frame.

        Raises:
            ValueError: It is none. RecursionError: It is nested too deeply.
        """

    def decode_value(self, data: Buffer, kind: type[T]) -> T:
        """Decode the result or stream value that an item carries.

        Raises:
            ValueError: It does not fit. RecursionError: It is nested too deeply.
        """


class _Msgpack:
    name = SUBPROTOCOL_MSGPACK
    binary = True

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._hooked = msgspec.msgpack.Encoder(enc_hook=str).encode
        self._frames = msgspec.msgpack.Decoder(tuple[Header, list[Item]])
        self._decoders: dict[Any, Any] = {}

    def encode_result(self, id: int, revision: int, result: Struct | None) -> bytes:
        return self._encode((0, id, revision, result))

    def encode_failure(self, id: int, error: CoordinatorError) -> bytes:
        return self._hooked((1, id, error.code, error.message, error.details))

    def encode_value(self, value: Struct) -> bytes:
        return self._encode(value)

    def encode_stream(self, ids: Sequence[int], value: bytes) -> bytes:
        return b"\x93\x02" + self._encode(ids) + value

    def encode_closing(self, error: CoordinatorError, endpoints: Sequence[str] = ()) -> bytes:
        return self._encode((3, error.code, error.message, endpoints))

    def join_frame(self, header: Header, items: Sequence[bytes]) -> bytes:
        count = len(items)
        if count < 16:
            lead = bytes((0x90 | count,))
        elif count < 65536:
            lead = b"\xdc" + count.to_bytes(2, "big")
        else:
            lead = b"\xdd" + count.to_bytes(4, "big")
        return b"".join((b"\x92", self._encode(header), lead, *items))

    def encode_requests(self, floor: int, requests: Iterable[tuple[int, Struct]]) -> bytes:
        return self._encode((floor, requests))

    def decode_frame(self, data: Buffer | str) -> tuple[Header, list[Item]]:
        return self._frames.decode(data)  # type: ignore[arg-type]

    def decode_value(self, data: Buffer, kind: type[T]) -> T:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind)
        value: T = decoder.decode(data)
        return value


class _Json:
    name = SUBPROTOCOL_JSON
    binary = False

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._frames = msgspec.json.Decoder(tuple[list[Any], list[_AnyItem]])
        self._shapes: dict[Any, Shape] = {}

    def _shape(self, kind: Any) -> Shape:
        shape = self._shapes.get(kind)
        if shape is None:
            shape = self._shapes[kind] = shape_of(kind)
        return shape

    def encode_result(self, id: int, revision: int, result: Struct | None) -> bytes:
        value = b"null" if result is None else self.encode_value(result)
        return b"[0,%d,%d,%b]" % (id, revision, value)

    def encode_failure(self, id: int, error: CoordinatorError) -> bytes:
        return self._encode((1, id, error.code, error.message, error.details))

    def encode_value(self, value: Struct) -> bytes:
        shape = self._shape(type(value))
        if not shape.has_ids:
            return self._encode(value)
        return self._encode(shape.ids_to_json(msgspec.to_builtins(value)))

    def encode_stream(self, ids: Sequence[int], value: bytes) -> bytes:
        return b"[2,%b,%b]" % (self._encode(ids), value)

    def encode_closing(self, error: CoordinatorError, endpoints: Sequence[str] = ()) -> bytes:
        return self._encode((3, error.code, error.message, endpoints))

    def join_frame(self, header: Header, items: Sequence[bytes]) -> bytes:
        return b"[%b,[%b]]" % (self.encode_value(header), b",".join(items))

    def encode_requests(self, floor: int, requests: Iterable[tuple[int, Struct]]) -> bytes:
        parts = (b"[%d,%b]" % (id, self.encode_value(body)) for id, body in requests)
        return b"[%d,[%b]]" % (floor, b",".join(parts))

    def decode_frame(self, data: Buffer | str) -> tuple[Header, list[Item]]:
        header, items = self._frames.decode(data)
        plain = self._shape(Header).ids_from_json(header)
        return msgspec.convert(plain, Header), items

    def decode_value(self, data: Buffer, kind: type[T]) -> T:
        shape = self._shape(kind)
        if not shape.has_ids:
            return msgspec.json.decode(data, type=kind)
        plain = msgspec.json.decode(data)
        return msgspec.convert(shape.ids_from_json(plain), kind)


_AnyItem: Any = Item
MSGPACK: Codec = _Msgpack()
"""For programs: binary messages."""
JSON: Codec = _Json()
"""For browsers and scripts: text messages."""
CODECS: dict[str, Codec] = {MSGPACK.name: MSGPACK, JSON.name: JSON}
"""The codecs by subprotocol, the preferred one first."""


class RequestDecoder:
    """Decodes the frames of clients."""

    def __init__(self, requests: Sequence[type[Struct]], codec: Codec = MSGPACK) -> None:
        """Prepare for a set of operations.

        Args:
            requests: The types of the operations; each has its own tag.
            codec: What the frames are written in.
        """
        self._bodies: Any = Union[tuple(requests)]  # noqa: UP007 - built at run time
        self._kinds = {kind.__struct_config__.tag: kind for kind in requests}
        self._shapes = {tag: shape_of(kind) for tag, kind in self._kinds.items()}
        self._whole: Any = None
        if codec.binary:
            kind: Any = tuple[int, list[Request[self._bodies]]]  # type: ignore[name-defined]
            self._whole = msgspec.msgpack.Decoder(kind).decode
            self._outer: Any = msgspec.msgpack.Decoder(tuple[int, list[_RawRequest]]).decode
            self._typed: Any = msgspec.msgpack.Decoder(self._bodies).decode
            self._plain: Any = msgspec.msgpack.Decoder().decode
        else:
            self._outer = msgspec.json.Decoder(tuple[int, list[_RawRequest]]).decode
            self._typed = self._from_json
            self._plain = msgspec.json.Decoder().decode

    def decode(
        self, data: Buffer | str
    ) -> tuple[int, list[Request[Any]], list[tuple[int, CoordinatorError]]]:
        """Decode one frame.

        Args:
            data: The bytes or the text of one WebSocket message.

        Returns:
            The floor, the requests that are well-formed, and for each of the others its id
            with the error to answer.

        Raises:
            InvalidRequest: The frame itself is malformed; nothing of it can be answered.
        """
        if self._whole is not None and not isinstance(data, str):
            try:
                floor, requests = self._whole(data)
            except _BAD_INPUT:
                pass
            else:
                if not _BIG_UINT(data) or self._all_fit(floor, requests):
                    return floor, requests, []
        return self._decode_each(data)

    def _all_fit(self, floor: int, requests: list[Request[Any]]) -> bool:
        """Whether what looked like too large a number somewhere in the frame is none."""
        if max([floor, *[request.id for request in requests]]) > INT64_MAX:
            return False
        bodies = [request.body for request in requests]
        # Mostly it is an id with the array behind it: then no body looks like one.
        return not _BIG_UINT(_encode_bodies(bodies)) or not any(
            self._shapes[body.__struct_config__.tag].oversized(body) is not None for body in bodies
        )

    def _decode_each(
        self, data: Buffer | str
    ) -> tuple[int, list[Request[Any]], list[tuple[int, CoordinatorError]]]:
        requests: list[Request[Any]] = []
        failures: list[tuple[int, CoordinatorError]] = []
        try:
            floor, raws = self._outer(data)
        except (*_BAD_INPUT, TypeError) as error:
            floor, raws = self._salvage(data, error, failures)
        ids = [floor, *(raw.id for raw in raws), *(id for id, _ in failures)]
        if any(abs(id) > INT64_MAX for id in ids):
            raise InvalidRequest("floor and ids are 64-bit integers", field="frame")
        for raw in raws:
            body = self._decode_body(raw.body)
            if isinstance(body, CoordinatorError):
                failures.append((raw.id, body))
            else:
                requests.append(Request(raw.id, body))
        return floor, requests, failures

    def _salvage(
        self,
        data: Buffer | str,
        error: Exception,
        failures: list[tuple[int, CoordinatorError]],
    ) -> tuple[int, list[_RawRequest]]:
        """Find the good requests of a JSON frame that holds text or numbers that are none."""
        broken = InvalidRequest(
            f"a frame is [floor, [[id, [operation, ...]], ...]]: {error}", field="frame"
        )
        if self._whole is not None:
            raise broken
        try:
            floor, plain = json.loads(data if isinstance(data, str | bytes) else bytes(data))
            pairs = [(id, body) for id, body in plain]
        except (*_BAD_INPUT, TypeError):
            raise broken from None
        if any(type(number) is not int for number in (floor, *(id for id, _ in pairs))):
            raise broken
        raws: list[_RawRequest] = []
        for id, body in pairs:
            try:
                raws.append(_RawRequest(id, Raw(msgspec.json.encode(body))))
            except _BAD_INPUT as reason:
                malformed = f"the request is malformed: {reason}"
                failures.append((id, InvalidRequest(malformed, field="request")))
        return floor, raws

    def _decode_body(self, raw: Raw) -> Any:
        try:
            body = self._typed(raw)
            shape = self._shapes[body.__struct_config__.tag]
            name = shape.oversized(body)
        except msgspec.ValidationError as error:
            return self._explain(raw, str(error))
        except RecursionError:
            return InvalidRequest("the request is nested too deeply", field="request")
        except ValueError as error:
            return InvalidRequest(f"the request is malformed: {error}", field="request")
        if name is not None:
            return InvalidRequest(f"{name}: does not fit a 64-bit integer", field=name)
        return body

    def _from_json(self, raw: Raw) -> Any:
        plain = msgspec.json.decode(raw)
        tag = plain[0] if isinstance(plain, list) and plain else None
        shape = self._shapes.get(tag) if isinstance(tag, str) else None
        if shape is None:
            raise msgspec.ValidationError("unknown operation")
        return msgspec.convert(shape.ids_from_json(plain), self._kinds[tag])

    def _explain(self, raw: Raw, message: str) -> CoordinatorError:
        try:
            plain = self._plain(raw)
        except _BAD_INPUT:
            return InvalidRequest(f"the request is malformed: {message}", field="request")
        tag = plain[0] if isinstance(plain, list) and plain else None
        if not isinstance(tag, str):
            return InvalidRequest(
                "operation: a request is an array that starts with its name", field="operation"
            )
        shape = self._shapes.get(tag)
        if shape is None:
            return UnknownOperation(f"unknown operation {tag[:80]!r}", operation=tag[:80])
        name, reason = shape.locate(message, plain)
        return InvalidRequest(f"{name or tag}: {reason}", field=name or "request")
