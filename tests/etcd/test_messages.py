"""Messages from the table, their JSON, and errors with etcd's codes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from hypothesis import given
from hypothesis import strategies as st

from coordinator.etcd import jsonform
from coordinator.etcd.answering import percent_encoded
from coordinator.etcd.calls import varint
from coordinator.etcd.messages import METHODS, SCHEMA
from coordinator.etcd.status import Code, StatusError, status_of
from coordinator_sdk import errors
from coordinator_sdk.errors import CoordinatorError

Put = METHODS["/etcdserverpb.KV/Put"].request
Range = METHODS["/etcdserverpb.KV/Range"].request
Txn = METHODS["/etcdserverpb.KV/Txn"].request
Grant = METHODS["/etcdserverpb.Lease/LeaseGrant"].request
Remove = METHODS["/etcdserverpb.Cluster/MemberRemove"].request
GO = "json: cannot unmarshal"


def test_messages_have_etcds_field_numbers() -> None:
    """Encoded messages have the bytes that etcd's have."""
    assert Put(key=b"a", value=b"b", lease=-1).SerializeToString() == (
        b"\x0a\x01a\x12\x01b\x18" + b"\xff" * 9 + b"\x01"
    )
    compare = SCHEMA.message("etcdserverpb.Compare")(range_end=b"z", value=b"v", target=3)
    assert compare.SerializeToString() == b"\x10\x03\x3a\x01v\x82\x04\x01z"
    assert compare.WhichOneof("target_union") == "value"


def test_calls_know_what_streams() -> None:
    """Watch and keepalive stream both ways, snapshots and observations one way."""
    streaming = {
        path: (method.client_streams, method.server_streams)
        for path, method in METHODS.items()
        if method.client_streams or method.server_streams
    }
    assert streaming == {
        "/etcdserverpb.Watch/Watch": (True, True),
        "/etcdserverpb.Lease/LeaseKeepAlive": (True, True),
        "/etcdserverpb.Maintenance/Snapshot": (False, True),
        "/v3electionpb.Election/Observe": (False, True),
    }


def test_the_shared_pool_stays_clean() -> None:
    """Nothing is registered where another package's messages would clash with it."""
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest")


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_are_written_as_protobuf_does(number: int) -> None:
    """The varint of any number is what protobuf writes."""
    member = SCHEMA.message("etcdserverpb.Member")(ID=number)
    assert member.SerializeToString() == (b"\x08" + varint(number) if number else b"")


# ---------------------------------------------------------------- JSON


@given(
    st.binary(max_size=30), st.integers(-(1 << 63), (1 << 63) - 1), st.booleans(), st.integers(0, 2)
)
def test_json_comes_back_as_it_went(key: bytes, limit: int, only: bool, order: int) -> None:
    """A message written as JSON and read again is the same."""
    message = Range(key=key, limit=limit, keys_only=only, sort_order=order)
    assert jsonform.from_json(Range, jsonform.to_json(message)) == message


def test_json_has_etcds_conventions() -> None:
    """64 bits are strings, bytes are base64, enums are names, and what is zero is left out."""
    message = Range(key=b"a", limit=5, sort_order=2, serializable=True)
    text = b'{"key":"YQ==","limit":"5","sort_order":"DESCEND","serializable":true}'
    assert jsonform.to_json(message) == text
    for same in (
        b'{"key":"YQ==","limit":5,"sortOrder":"DESCEND","serializable":true}',
        b'{"key":"YQ==","limit":"5","sort_order":2,"serializable":true,"unknown":[1]}',
        b'{"key":"YQ==","limit":" 5","sort_order":2,"serializable":true,"revision":null}',
        b'{"key":[97],"limit":5,"sort_order":2,"serializable":true}{"key":5} behind',
    ):
        assert jsonform.from_json(Range, same) == message
    assert jsonform.from_json(Range, b"") == Range()
    assert jsonform.from_json(Grant, b'{"TTL":"9","ID":7}') == Grant(TTL=9, ID=7)
    nested = jsonform.from_json(Txn, b'{"success":[{"requestPut":{"key":"YQ=="}},{}]}')
    assert nested.success[0].request_put.key == b"a"
    assert len(nested.success) == 2


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (Range, b"{", "unexpected EOF"),
        (Range, b'{"key":"a', "unexpected EOF"),
        (Range, b"[]", f"{GO} array into Go value of type map[string]json.RawMessage"),
        (Range, b"5", f"{GO} number into Go value of type map[string]json.RawMessage"),
        (Range, b"{k:1}", "invalid character 'k' looking for beginning of object key string"),
        (Range, b"\xff", "invalid character '\ufffd' looking for beginning of value"),
        (Range, b"[NaN]", "invalid character 'N' looking for beginning of value"),
        (Range, b'{"key":5}', f"{GO} number into Go value of type []uint8"),
        (Range, b'{"key":true}', f"{GO} bool into Go value of type []uint8"),
        (Range, b'{"key":["YQ=="]}', f"{GO} string into Go value of type uint8"),
        (Range, b'{"key":[256]}', f"{GO} number 256 into Go value of type uint8"),
        (Range, b'{"limit":"5x"}', "invalid character 'x' after top-level value"),
        (Range, b'{"limit":"005"}', "invalid character '0' after top-level value"),
        (Range, b'{"limit":"abc"}', "invalid character 'a' looking for beginning of value"),
        (Range, b'{"limit":""}', "unexpected end of JSON input"),
        (Range, b'{"limit":1e2}', f"{GO} number 1e2 into Go value of type int64"),
        (Range, b'{"limit":"1.0"}', f"{GO} number 1.0 into Go value of type int64"),
        (
            Range,
            b'{"limit":9223372036854775808}',
            f"{GO} number 9223372036854775808 into Go value of type int64",
        ),
        (Range, b'{"limit":true}', f"{GO} bool into Go value of type int64"),
        (Range, b'{"limit":' + b"9" * 5000 + b"}", f"{GO} number 999"),
        (Remove, b'{"ID":"-5"}', f"{GO} number -5 into Go value of type uint64"),
        (Range, b'{"keys_only":"yes"}', f"{GO} string into Go value of type bool"),
        (
            Range,
            b'{"sort_order":"UP"}',
            'unknown value "UP" for enum etcdserverpb.RangeRequest_SortOrder',
        ),
        (
            Range,
            b'{"sort_order":1.0}',
            f"{GO} number 1.0 into Go value of type etcdserverpb.RangeRequest_SortOrder",
        ),
        (Txn, b'{"compare":{}}', f"{GO} object into Go value of type []json.RawMessage"),
        (Txn, b'{"compare":[5]}', f"{GO} number into Go value of type map"),
        (Txn, b'{"success":[{"request_txn":' * 150 + b"{}" + b"}]}" * 150, "deep"),
    ],
)
def test_wrong_json_is_an_invalid_argument(kind: Any, text: bytes, words: str) -> None:
    """What is no such message is refused, in the words of Go's decoder."""
    with pytest.raises(StatusError) as error:
        jsonform.from_json(kind, text)
    assert words in error.value.message
    assert error.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("YQ=", 3),
        ("abc", 0),
        ("abcdab", 4),
        ("abc!", 3),
        ("!abc", 0),
        ("=", 0),
        ("YQ==YQ==", 4),
        ("YQ=x", 2),
        ("YWJj=", 4),
        ("YQ-_", 2),
    ],
)
def test_base64_errors_name_the_byte(text: str, place: int) -> None:
    """Bad base64 is refused with the byte that Go's decoder would name."""
    with pytest.raises(StatusError) as error:
        jsonform.from_json(Put, b'{"key":"%s"}' % text.encode())
    assert error.value.message == f"illegal base64 data at input byte {place}"


@given(st.binary(max_size=200))
def test_base64_is_read(data: bytes) -> None:
    """Any bytes in base64 are read, with line ends or without."""
    text = base64.encodebytes(data).decode().replace("\n", "\\r\\n")
    assert jsonform.from_json(Put, f'{{"value":"{text}"}}'.encode()).value == data


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NoLeader("whoever"), 14, "etcdserver: no leader"),
        (errors.Stopping("now"), 14, "etcdserver: server stopped"),
        (errors.Unavailable("busy"), 14, "etcdserver: request timed out"),
        (errors.OutcomeUnknown("perhaps"), 14, "etcdserver: request timed out"),
        (errors.NoSpace("full"), 8, "etcdserver: mvcc: database space exceeded"),
        (errors.Exhausted("many"), 8, "etcdserver: too many requests"),
        (errors.RequestTooLarge("large"), 3, "etcdserver: request is too large"),
        (errors.Conflict("etcdserver: not leader"), 9, "etcdserver: not leader"),
        (errors.GuardFailed("stale"), 9, "stale"),
        (errors.PermissionDenied("no"), 7, "no"),
        (errors.UnknownOperation("what"), 12, "what"),
        (errors.Internal("odd"), 2, "odd"),
        (ValueError("inside"), 13, "the member failed to serve the request"),
    ],
)
def test_errors_have_etcds_codes(error: Exception, code: int, text: str) -> None:
    """Every error becomes a status with etcd's code, and etcd's text where it has one."""
    status = status_of(error)
    assert (status.code, status.message) == (code, text)


def test_every_class_of_errors_has_a_code() -> None:
    """No error of the tree that a member can answer with is without a code."""

    def below(kind: type[CoordinatorError]) -> list[type[CoordinatorError]]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    for kind in below(errors.NotApplied):
        if kind is not errors.NotApplied:
            assert status_of(kind("told")).code not in (Code.UNKNOWN, Code.INTERNAL), kind


def test_messages_of_errors_fit_into_a_header() -> None:
    """What does not fit into a header is escaped."""
    assert percent_encoded("100% é\n") == b"100%25 %C3%A9%0A"
