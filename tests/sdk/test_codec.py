"""Frames to bytes and back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator_sdk.errors import CoordinatorError, InvalidRequest, NoLeader, UnknownOperation
from coordinator_sdk.protocol import REQUESTS, kv, locks
from coordinator_sdk.protocol.codec import CODECS, JSON, MSGPACK, Codec, RequestDecoder
from coordinator_sdk.protocol.frames import Closing, Failure, Header, Result, Stream
from tests.sdk.structs import every_struct, struct_values

DECODERS = {codec.name: RequestDecoder(REQUESTS, codec) for codec in CODECS.values()}
BOTH = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
HEADER = Header(1, (1 << 63) - 1, 3, 4)
pack = msgspec.msgpack.encode


def test_the_contract_is_found() -> None:
    """The round trips below cover every struct that the operations and their answers use."""
    names = {kind.__name__ for kind in every_struct()}
    assert {"Put", "Txn", "KeyValue", "TicketState", "Instance", "HelloResult"} <= names
    assert set(REQUESTS) <= set(every_struct())


@BOTH
@pytest.mark.parametrize("kind", every_struct(), ids=lambda kind: kind.__name__)
def test_every_struct_survives_a_round_trip(codec: Codec, kind: type[msgspec.Struct]) -> None:
    """Every struct of the contract comes back as it was, in both codecs."""

    @settings(max_examples=20)
    @given(struct_values(kind))
    def round_trip(value: Any) -> None:
        assert codec.decode_value(codec.encode_value(value), kind) == value

    round_trip()


@BOTH
@given(st.data())
def test_requests_survive_a_round_trip(codec: Codec, data: st.DataObject) -> None:
    """A frame of any requests is decoded to what was encoded."""
    kinds = data.draw(st.lists(st.sampled_from(REQUESTS), max_size=4))
    bodies = [(at + 1, data.draw(struct_values(kind))) for at, kind in enumerate(kinds)]
    floor, requests, failures = DECODERS[codec.name].decode(codec.encode_requests(1, bodies))
    assert (floor, failures) == (1, [])
    assert [(request.id, request.body) for request in requests] == bodies


@BOTH
def test_a_frame_joins_encoded_items(codec: Codec) -> None:
    """Items encoded one by one and joined are one frame, in order and complete."""
    item = codec.encode_value(kv.WatchProgress(9))
    frame = codec.join_frame(
        HEADER,
        [
            codec.encode_result(1, 5, kv.PutResult(5)),
            codec.encode_result(2, 5, None),
            codec.encode_stream([3, 70_000], item),
            codec.encode_failure(4, NoLeader("none now", hint=b"\0")),
            codec.encode_closing(NoLeader("bye")),
        ],
    )
    header, items = codec.decode_frame(frame)
    assert header == HEADER
    first, empty, stream, failure, closing = items
    assert isinstance(first, Result)
    assert codec.decode_value(first.result, kv.PutResult) == kv.PutResult(5)
    assert isinstance(empty, Result)
    assert codec.decode_value(empty.result, type(None)) is None
    assert isinstance(stream, Stream)
    assert (stream.ids, codec.decode_value(stream.item, kv.WatchProgress).revision) == (
        [3, 70_000],
        9,
    )
    assert isinstance(failure, Failure)
    assert (failure.id, failure.code, failure.message) == (4, "no_leader", "none now")
    assert closing == Closing("no_leader", "bye")


@BOTH
@pytest.mark.parametrize("count", [0, 1, 15, 16, 255, 256, 65_535, 65_536])
def test_a_frame_holds_any_number_of_items(codec: Codec, count: int) -> None:
    """A frame holds as many items as were joined, whatever their number."""
    item = codec.encode_result(7, 8, None)
    _, items = codec.decode_frame(codec.join_frame(HEADER, [item] * count))
    assert len(items) == count


def test_ids_are_digits_in_json() -> None:
    """In JSON ids are 16 hexadecimal digits, and bytes are base64."""
    body = kv.Put(b"k", b"v", lease=255)
    frame = msgspec.json.decode(JSON.encode_requests(3, [(9, body)]))
    assert frame == [
        3,
        [[9, ["kv.put", "aw==", "dg==", "00000000000000ff", False, False, False, None]]],
    ]
    header = JSON.join_frame(HEADER, [])
    assert msgspec.json.decode(header) == [["0000000000000001", "7fffffffffffffff", 3, 4, 0], []]


@pytest.mark.parametrize(
    ("given", "wanted"), [('"ff"', 255), ("255", 255), ('"00000000000000FF"', 255), ("0", 0)]
)
def test_json_takes_ids_in_both_forms(given: str, wanted: int) -> None:
    """In JSON an id may be given as digits or as a number that JSON keeps exactly."""
    _, [request], failures = DECODERS[JSON.name].decode(
        f'[1, [[1, ["kv.put", "aw==", "", {given}]]]]'
    )
    assert failures == []
    assert request.body.lease == wanted


def one_failure(decoder: RequestDecoder, frame: bytes | str) -> CoordinatorError:
    """Decode a frame of one good and one bad request; returns the error of the bad one."""
    _, requests, failures = decoder.decode(frame)
    assert [request.id for request in requests] == [1]
    [(id, error)] = failures
    assert id == 2
    return error


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (["kv.put", 5], "key"),
        (["kv.put"], "key"),
        (["kv.put", b"k", b"v", "x"], "lease"),
        (["kv.put", b"k", b"v", 0, 0, 0, 0, ["locks", "n", "m"]], "prev_kv"),
        (["kv.put", b"k", b"v", 0, False, False, False, ["locks", "n"]], "guard.name"),
        (["kv.compact", 1 << 63], "revision"),
        (["kv.put", b"k", b"v", (1 << 64) - 1], "lease"),
        (["kv.txn", [[0, 0, "text"]]], "compare[0].key"),
        (["kv.txn", [], [["kv.put", b"k"], ["kv.put", b"k", 5]]], "success[1].value"),
        (["kv.txn", [], [], [["kv.put", b"k", b"", 1 << 63]]], "failure[0].lease"),
        (["kv.txn", [], [["kv.fly", b"k"]]], "success[0]"),
        (["topics.publish", "n", "t", b"", {"a": 5}], "headers"),
        (["topics.subscribe", "n", "t", "latest", 0, {"a": 1 << 63}], "after[a]"),
        (["leases.keepalive", [1, "x"]], "leases[1]"),
        (["leases.keepalive", [1, 1 << 63]], "leases[1]"),
        (["locks.acquire", "n", "m", 1, "o", "t", 1.5], "timeout_ms"),
        ([], "operation"),
        ([5, 6], "operation"),
        ("kv.put", "operation"),
        (7, "operation"),
        (None, "operation"),
    ],
)
def test_a_bad_request_names_its_field(body: Any, field: str) -> None:
    """One bad request gives one error that names the field; the others of its frame live."""
    error = one_failure(DECODERS[MSGPACK.name], pack((1, [(1, ["cluster.status"]), (2, body)])))
    assert type(error) is InvalidRequest
    assert error.details == {"field": field}
    assert str(error).startswith((field, "the request"))


def test_what_only_looks_like_too_large_a_number_is_decoded() -> None:
    """Bytes that could begin a number of 2^63 or more refuse nothing by themselves."""
    value = b"\xcf" + b"\xff" * 8
    frame = pack((1, [(0x1CF, ["kv.put", b"k", b"v"]), (0x2CF, ["kv.put", value, value, 5])]))
    floor, requests, failures = DECODERS[MSGPACK.name].decode(frame)
    assert (floor, failures) == (1, [])
    assert [(request.id, request.body) for request in requests] == [
        (0x1CF, kv.Put(b"k", b"v")),
        (0x2CF, kv.Put(value, value, 5)),
    ]


@pytest.mark.parametrize("frame", [((1 << 63), []), (1, [(1 << 63, ["kv.put", b"k", b"v"])])])
def test_ids_are_signed_numbers(frame: Any) -> None:
    """A floor or an id of 2^63 or more makes the frame malformed."""
    with pytest.raises(InvalidRequest):
        DECODERS[MSGPACK.name].decode(pack(frame))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('["kv.put", "k"]', "key"),
        ('["kv.put", 5]', "key"),
        ('["kv.put", "aw==", "", "xyz"]', "lease"),
        ('["kv.put", "aw==", "", 9007199254740993]', "lease"),
        ('["kv.put", "aw==", "", "ffffffffffffffff"]', "lease"),
        ('["kv.put", "aw==", "", "00000000000000000"]', "lease"),
        ('["kv.put", "aw==", "", true]', "lease"),
        ('["kv.compact", 1e400]', "request"),
        ('["kv.compact", 1.5]', "revision"),
        ('["kv.compact", 123456789012345678901234567890]', "revision"),
        ('["kv.compact", -9223372036854775809]', "revision"),
        ('["locks.get", "n", "\\ud800"]', "request"),
        ('["kv.txn", [], [["kv.put", "aw==", "", "?"]]]', "success[0].lease"),
        ('{"operation": "kv.put"}', "operation"),
        ("null", "operation"),
    ],
)
def test_a_bad_request_in_json_names_its_field(body: str, field: str) -> None:
    """In JSON too, hostile numbers, digits and text give a clean error for one request."""
    error = one_failure(DECODERS[JSON.name], f'[1, [[1, ["cluster.status"]], [2, {body}]]]')
    assert type(error) is InvalidRequest
    assert error.details == {"field": field}


@BOTH
def test_an_unknown_operation_is_told(codec: Codec) -> None:
    """An operation that the server does not know is answered with UnknownOperation."""
    frame = (1, [(1, ["cluster.status"]), (2, ["locks.levitate", 1, 2])])
    data = pack(frame) if codec.binary else msgspec.json.encode(frame)
    error = one_failure(DECODERS[codec.name], data)
    assert type(error) is UnknownOperation
    assert error.details == {"operation": "locks.levitate"}


def test_trailing_fields_are_ignored() -> None:
    """Fields that a later version appends do not hinder an older server."""
    body = ["locks.get", "default", "backup", 0, "from the future", [1, 2]]
    _, [request], failures = DECODERS[MSGPACK.name].decode(pack((1, [(1, body)])))
    assert (request.body, failures) == (locks.LockGet("default", "backup"), [])


def test_deep_nesting_is_refused() -> None:
    """Nesting beyond the stack is an ordinary error, for the request or the frame."""
    inner: Any = ["kv.txn", [], []]
    for _ in range(400):
        inner = ["kv.txn", [], [inner]]
    deep = b"\x91" * 100_000
    cases: list[tuple[str, Any]] = [
        (MSGPACK.name, pack((1, [(1, inner)]))),
        (MSGPACK.name, b"\x92\x01\x91\x92\x01" + deep + b"\xc0"),
        (JSON.name, "[1,[[1," + "[" * 100_000),
        (JSON.name, "[1,[[1," + "[" * 3_000 + "]" * 3_000 + "]]]"),
    ]
    for name, data in cases:
        try:
            _, _, failures = DECODERS[name].decode(data)
        except InvalidRequest:
            continue
        assert all(isinstance(error, InvalidRequest) for _, error in failures)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "nonsense",
        "[NaN, []]",
        "[1]",
        "[1, [[1]]]",
        "[1, [[9223372036854775808, []]]]",
        '{"floor": 1}',
        '[1, [["\\ud800", []]]]',
        '[1.5, [[1, "\\ud800"]]]',
        "[true, [[1, NaN]]]",
        "[1, NaN]",
        b"\xff\xfe",
    ],
)
def test_a_malformed_frame_in_json_is_refused(data: Any) -> None:
    """What is no frame is refused as a whole, with a plain error."""
    with pytest.raises(InvalidRequest):
        DECODERS[JSON.name].decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91\x01", pack([1, [[1 << 63, []]]]), pack([1 << 63, []]), "text"]
)
def test_a_malformed_frame_is_refused(data: Any) -> None:
    """What is no MessagePack frame is refused as a whole, with a plain error."""
    with pytest.raises(InvalidRequest):
        DECODERS[MSGPACK.name].decode(data)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.sampled_from([kind.__struct_config__.tag for kind in REQUESTS]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(ANYTHING)
def test_the_decoder_survives_any_messagepack(value: Any) -> None:
    """Whatever MessagePack arrives, the decoder answers with errors of the contract only."""
    for frame in (value, [1, value], [1, [[1, value]]]):
        try:
            data = pack(frame)
        except (OverflowError, ValueError, UnicodeEncodeError):
            return
        try:
            _, _, failures = DECODERS[MSGPACK.name].decode(data)
        except InvalidRequest:
            continue
        assert all(isinstance(error, CoordinatorError) for _, error in failures)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_the_decoders_survive_any_bytes(data: bytes | str) -> None:
    """Whatever bytes or text arrive, both decoders answer with errors of the contract only."""
    for decoder in DECODERS.values():
        whole: Any = data
        whole = b"\x92\x01\x91\x92\x01" + whole if isinstance(data, bytes) else "[1,[[1," + whole
        for frame in (data, whole):
            try:
                decoder.decode(frame)
            except InvalidRequest:
                continue


@given(st.data())
def test_damage_to_a_frame_is_survived(data: st.DataObject) -> None:
    """A frame with bytes changed is decoded or refused, in both codecs, and never breaks."""
    for codec in CODECS.values():
        kind = data.draw(st.sampled_from(REQUESTS))
        frame = bytearray(codec.encode_requests(1, [(1, data.draw(struct_values(kind)))]))
        for _ in range(data.draw(st.integers(1, 3))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        try:
            DECODERS[codec.name].decode(bytes(frame))
        except InvalidRequest:
            continue


@BOTH
@given(st.binary(max_size=100))
def test_a_client_survives_any_frame(codec: Codec, data: bytes) -> None:
    """Whatever a server sends, reading it gives a frame, ValueError or RecursionError."""
    for frame in (data, b"\x92" + data):
        try:
            codec.decode_frame(frame)
        except (ValueError, RecursionError):
            continue
