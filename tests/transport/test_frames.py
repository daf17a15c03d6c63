"""The bytes between members, without any socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.transport.frames import HEADER_BYTES, PREAMBLE, FrameReader, Violation, encode
from coordinator.transport.notices import Notices

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=10)


@given(frames, st.lists(st.integers(0, 3000)))
def test_frames_survive_any_cutting(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """However the stream is cut into pieces, the same frames come out of it."""
    stream = PREAMBLE + b"".join(encode(kind, body) for kind, body in sent)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader(300)
    got = []
    for start, end in zip(places, places[1:], strict=False):
        got += list(reader.feed(stream[start:end]))
    assert got == sent


def test_frames_come_out_byte_by_byte() -> None:
    """A frame is given as soon as its last byte has come, and not before."""
    stream = PREAMBLE + encode(2, b"abc") + encode(1)
    reader = FrameReader(10)
    got = [list(reader.feed(stream[n : n + 1])) for n in range(len(stream))]
    whole = len(PREAMBLE) + HEADER_BYTES + 3
    assert got[whole - 1] == [(2, b"abc")]
    assert got[-1] == [(1, b"")]
    assert sum(map(len, got)) == 2


@given(st.binary(min_size=1, max_size=50), st.data())
def test_damage_is_found(body: bytes, data: st.DataObject) -> None:
    """A flipped bit of kind, checksum or body never yields a frame."""
    frame = bytearray(encode(2, body))
    place = data.draw(st.integers(4 * 8, len(frame) * 8 - 1))
    frame[place // 8] ^= 1 << place % 8
    with pytest.raises(Violation, match="damaged"):
        list(FrameReader(100).feed(PREAMBLE + frame))


def test_the_limit_holds_before_the_body_came() -> None:
    """A frame that is too large is refused by its header alone; the limit may change in between."""
    reader = FrameReader(4)
    got = reader.feed(PREAMBLE + encode(0, b"four") + encode(2, b"fives")[:HEADER_BYTES])
    assert next(got) == (0, b"four")
    reader.body_bytes_max = 5
    assert list(got) == []
    with pytest.raises(Violation, match="a frame of 6 bytes, at most 5"):
        list(reader.feed(b"fives" + encode(2, b"sixsix")[:HEADER_BYTES]))


def test_a_wrong_preamble_is_found_at_once() -> None:
    """The first byte that differs from the preamble is enough."""
    for count in range(len(PREAMBLE)):
        reader = FrameReader(10)
        assert list(reader.feed(PREAMBLE[:count])) == [] or count == 0
        with pytest.raises(Violation):
            list(reader.feed(bytes([PREAMBLE[count] ^ 1])))


def test_lines_are_counted_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Within the interval lines are counted only; the next line tells how many."""
    notices = Notices(10)
    for now in (5.0, 6.0, 14.9, 15.0, 16.0, 30.0):
        notices.warn(f"at {now}", now)
    assert [record.getMessage() for record in caplog.records] == [
        "at 5.0",
        "at 15.0 (2 more since the last such line)",
        "at 30.0 (1 more since the last such line)",
    ]
