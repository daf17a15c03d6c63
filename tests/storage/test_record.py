"""The bytes of records and segments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.storage import record, segment
from coordinator.storage.memory import MemoryFiles
from coordinator.storage.record import CutMark, LogBatch, StoredBatch
from coordinator.storage.segment import SegmentHeader
from coordinator.wire.raft import ConfState, Entry, EntryType, HardState, SnapshotMetadata

numbers = st.integers(0, (1 << 63) - 1)
entry = st.builds(Entry, numbers, numbers, st.sampled_from(EntryType), st.binary(max_size=50))
hard_state = st.builds(HardState, numbers, numbers, numbers)
members = st.lists(numbers, max_size=3).map(tuple)
conf_state = st.builds(ConfState, members, members, members, members, st.booleans())
stored = st.builds(
    StoredBatch,
    st.none() | st.builds(SnapshotMetadata, conf_state, numbers, numbers),
    st.lists(entry, max_size=4),
    st.none() | hard_state,
    st.none() | st.builds(CutMark, numbers, numbers, numbers, hard_state),
)


@given(st.lists(stored, max_size=4), numbers, numbers, st.integers(0, (1 << 32) - 1))
def test_record_round_trip(batches: list[StoredBatch], epoch: int, previous: int, salt: int):
    """Every batch comes back from its record, wherever in a file that stands."""
    pieces = [record.encode_batch(each) for each in batches]
    data = record.build_record(pieces, salt, epoch, previous)
    assert len(data) == record.record_bytes(sum(map(len, pieces)))
    image = b"\0" * 7 + data + b"\0" * 9
    assert record.find_header(image, 0, salt, epoch) == 7
    header = record.read_header(image, 7, salt)
    assert header is not None
    assert (header.epoch, header.previous_end) == (epoch, previous)
    body = record.read_body(image, 7, header, salt)
    assert body is not None
    assert record.decode_body(body) == batches
    assert record.read_header(image, 7, salt ^ 1) is None
    assert record.find_header(image, 8, salt, epoch) == -1
    assert record.find_header(image, 0, salt, epoch + 1) == -1


def test_batch_without_cut_reads_as_stored_batch():
    """What callers submit is read back with the log's own fields empty."""
    piece = record.encode_batch(LogBatch(entries=[Entry(1, 1)]))
    body = record.build_record([piece], 0, 1, 2)[record.HEADER_BYTES :]
    assert record.decode_body(body) == [StoredBatch(entries=[Entry(1, 1)])]


@given(st.integers(0, 2000), st.data())
def test_missing_sector_means_torn(start: int, data: st.DataObject):
    """A body that lacks a sector may be torn; one that lacks nothing is not."""
    piece = record.encode_batch(LogBatch(entries=[Entry(1, 1, data=b"x" * 3000)]))
    made = record.build_record([piece], 0, 1, 2)
    image = bytearray(bytes(start) + made)
    header = record.read_header(bytes(image), start, 0)
    assert header is not None
    assert not record.is_torn(bytes(image), start, header)
    body = start + record.HEADER_BYTES
    first = data.draw(st.integers(body, len(image) - 1))
    first -= first % 512
    image[max(first, body) : first + 512] = bytes(min(first + 512, len(image)) - max(first, body))
    assert record.is_torn(bytes(image), start, header)


def test_segment_header_round_trip():
    """A segment header comes back, and none with a wrong bit in it does."""
    header = SegmentHeader(b"i" * 16, 3, 4096, 8192, 4000, 2)
    image = header.encode() + bytes(100)
    assert segment.decode_header(image) == header
    assert len(header.encode()) == segment.HEADER_BYTES <= segment.RECORDS_START
    for offset in range(segment.HEADER_BYTES):
        altered = bytearray(image)
        altered[offset] ^= 4
        assert segment.decode_header(bytes(altered)) is None
    assert segment.decode_header(b"") is None


@pytest.mark.parametrize("sequence", [1, 15, 16, 1 << 40])
def test_segment_names(sequence: int):
    """File names say the number of a segment, and sort like it."""
    name = segment.segment_name(sequence)
    assert segment.segment_sequence(name) == sequence
    assert name < segment.segment_name(sequence + 1)


@pytest.mark.parametrize(
    "name", ["spare", "identity", "1.log", "000000000000000g.log", "0000000000000001.tmp"]
)
def test_other_names_are_no_segments(name: str):
    """Nothing else in the folder is taken for a segment."""
    assert segment.segment_sequence(name) is None


def test_failed_creation_leaves_nothing():
    """A segment that could not be filled to its end is removed."""
    files = MemoryFiles()
    files.capacity_bytes = 3 << 20
    with pytest.raises(OSError, match="full"):
        segment.create_zeroed(files, "log/x", 5 << 20)
    assert files.names("log") == []
    fd = segment.create_zeroed(files, "log/x", (2 << 20) + 5)
    assert files.size(fd) == (2 << 20) + 5
    files.crash()
    assert files.names("log") == []
