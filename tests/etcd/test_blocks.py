"""Header blocks: decoded as HPACK says, and judged once."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.etcd.blocks import BAD, KEPT, PLAIN, PSEUDO, BlockDecoder, judged
from coordinator.etcd.frames import ConnectionBroken, H2Error, StreamBroken
from coordinator.etcd.headers import HeadReader

_NAMES = st.sampled_from([b":path", b"te", b"token", b"x-custom", b"grpc-timeout", b"user-agent"])
_HEADERS = st.lists(st.tuples(_NAMES, st.binary(max_size=200)), max_size=12)


@given(st.lists(st.tuples(_HEADERS, st.booleans(), st.integers(0, 4096)), max_size=12))
def test_blocks_are_read_as_they_were_written(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int]],
) -> None:
    """Whatever hpack's encoder writes, with tables of any size, is read."""
    encoder, decoder = hpack.Encoder(), BlockDecoder(1 << 20)
    for headers, huffman, size in blocks:
        encoder.header_table_size = size
        found = decoder.decode(encoder.encode(headers, huffman=huffman))
        assert [(one.name, one.value) for one in found] == headers


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_wrong_blocks_break_the_connection_only(blocks: list[bytes]) -> None:
    """Bytes that are no block raise one error, and no other."""
    decoder = BlockDecoder(10_000)
    with contextlib.suppress(ConnectionBroken):
        for block in blocks:
            decoder.decode(block)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # beyond the tables
        b"\xff\xff\xff\xff\xff\xff\xff\xff",  # a number without end
        b"\x40\x05ab",  # a name cut off
        b"\x40",  # nothing at all
        b"\x40\x81\x00\x01a",  # a Huffman code that is none
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x82\x3e",  # a change of size amid the block
    ],
)
def test_each_way_to_be_wrong_is_found(block: bytes) -> None:
    """Every kind of malformed block is a compression error."""
    with pytest.raises(ConnectionBroken) as error:
        BlockDecoder(10_000).decode(block)
    assert error.value.code is H2Error.COMPRESSION_ERROR


def test_the_table_forgets_the_oldest() -> None:
    """Entries beyond the table's size are gone."""
    encoder, decoder = hpack.Encoder(), BlockDecoder(1 << 20)
    decoder.decode(encoder.encode([(b"x-0", b"v" * 2100)]))
    decoder.decode(encoder.encode([(b"x-1", b"v" * 2100)]))
    with pytest.raises(ConnectionBroken):
        decoder.decode(b"\xbf")
    assert decoder.decode(b"\xbe")[0].name == b"x-1"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        (b":path", b"/", PSEUDO),
        (b"token", b"t", KEPT),
        (b"user-agent", b"a", PLAIN),
        (b"te", b"trailers", PLAIN),
        (b"te", b"gzip", BAD),
        (b"Upper", b"", BAD),
        (b"", b"", BAD),
        (b"sp ace", b"", BAD),
        (b"connection", b"x", BAD),
        (b"user-agent", b"a\nb", BAD),
        (b":path", b"/\0", BAD),
    ],
)
def test_headers_are_judged(name: bytes, value: bytes, kind: int) -> None:
    """A header is pseudo, kept, plain, or may not be in a request."""
    assert judged(name, value).kind == kind


def test_the_same_block_may_mean_something_else_later() -> None:
    """A block of indexes is looked up only while they mean the same."""
    reader, encoder = HeadReader(10_000), hpack.Encoder()
    base = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/one")]
    reader.read(encoder.encode(base))
    block = encoder.encode(base)
    assert reader.read(block).path == "/one"
    assert reader.read(block) is reader.read(block)
    reader.read(encoder.encode([*base[:2], (b":path", b"/two")]))
    assert reader.read(block).path == "/two"


def test_a_timeout_has_a_unit() -> None:
    """Each unit of grpc-timeout is read; what is none is refused."""
    base = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/one")]
    for text, seconds in ((b"2H", 7200), (b"3M", 180), (b"4S", 4), (b"5m", 0.005), (b"6u", 6e-6)):
        head = HeadReader(10_000).read(hpack.Encoder().encode([*base, (b"grpc-timeout", text)]))
        assert head.timeout_s == pytest.approx(seconds)
    for wrong in (b"", b"5", b"m", b"123456789S", b"-1S"):
        with pytest.raises(StreamBroken):
            HeadReader(10_000).read(hpack.Encoder().encode([*base, (b"grpc-timeout", wrong)]))
