"""What a stop, or a failing disk, may leave in the log, and how it is told apart."""

import itertools

import google_crc32c
import pytest

from coordinator.storage import record, segment
from coordinator.storage.errors import LogDamaged, SchemaTooNew
from coordinator.storage.memory import MemoryFiles
from coordinator.storage.record import LogBatch
from coordinator.storage.recovery import LogContents
from coordinator.storage.segments import open_segments
from coordinator.wire.raft import Entry, HardState, SnapshotMetadata
from tests.storage.logs import SEGMENT_BYTES, MemoryLogBench, batch, entries

FIRST = "log/0000000000000001.log"
SECOND = "log/0000000000000002.log"
START = segment.RECORDS_START


def log_of(*batches: LogBatch, segment_bytes: int = SEGMENT_BYTES) -> MemoryFiles:
    """Return a disk with a log of one record per batch."""
    bench = MemoryLogBench()
    bench.open(segment_bytes=segment_bytes, first_segment_bytes=segment_bytes)
    for each in batches:
        bench.write(each)
    bench.log.close()
    return bench.files


def read(files: MemoryFiles, segment_bytes: int = SEGMENT_BYTES) -> LogContents:
    bench = MemoryLogBench(files)
    contents = bench.open(segment_bytes=segment_bytes, first_segment_bytes=segment_bytes)
    bench.log.close()
    return contents


def used(files: MemoryFiles, path: str = FIRST) -> int:
    """Return where the last record of a segment ends."""
    return len(files.content(path).rstrip(b"\0"))


def assert_goes_on(files: MemoryFiles, contents: LogContents) -> None:
    """The log that was read takes another batch, and is clean afterwards."""
    bench = MemoryLogBench(files)
    bench.open()
    following = contents.last_index + 1
    bench.write(LogBatch(entries=entries(following, following), hard_state=HardState(5, 1, 0)))
    again = bench.reopen()
    assert again.entries == contents.entries + entries(following, following)
    assert again.torn_bytes == 0


def test_torn_last_batch_is_cut_at_every_byte():
    """A last record of which only the first n bytes were written is cut, for every n."""
    files = log_of(batch(1, 2), batch(3, 3))
    start = used(files)
    files = log_of(batch(1, 2), batch(3, 3), batch(4, 30))
    image, end = files.content(FIRST), used(files)
    for written in range(start, end):
        files.put(FIRST, image[:written] + bytes(len(image) - written))
        contents = read(files)
        assert contents.entries == entries(1, 3), written
        assert contents.torn_bytes == len(image[start:written].rstrip(b"\0"))
        assert not files.content(FIRST)[start:].strip(b"\0")
        assert read(files).torn_bytes == 0
    assert_goes_on(files, contents)


def test_torn_last_batch_is_cut_for_every_set_of_lost_sectors():
    """A last record that misses any of its sectors, in any combination, is cut."""
    files = log_of(batch(1, 3))
    start = used(files)
    files = log_of(batch(1, 3), batch(4, 4, size=2000))
    image, end = files.content(FIRST), used(files)
    borders = [start, *range(start - start % 512 + 512, end, 512), end]
    pieces = list(itertools.pairwise(borders))
    assert len(pieces) >= 4
    for lost in itertools.product([True, False], repeat=len(pieces)):
        torn = bytearray(image)
        for (first, last), is_lost in zip(pieces, lost, strict=True):
            if is_lost:
                torn[first:last] = bytes(last - first)
        files.put(FIRST, bytes(torn))
        contents = read(files)
        assert contents.entries == (entries(1, 3) if any(lost) else image_entries())


def image_entries() -> list[Entry]:
    return entries(1, 3) + entries(4, 4, size=2000)


def test_flipped_bit_before_the_last_batch_is_damage():
    """One wrong bit anywhere before the last record stops the start and names the place."""
    files = log_of(batch(1, 2), LogBatch(hard_state=HardState(1, 1, 1)), batch(3, 4))
    last = used(files)
    files = log_of(batch(1, 2), LogBatch(hard_state=HardState(1, 1, 1)), batch(3, 4), batch(5, 5))
    for offset in [*range(segment.HEADER_BYTES), *range(START, last)]:
        files.flip(FIRST, offset, 1 << offset % 8)
        with pytest.raises(LogDamaged) as raised:
            read(files)
        assert raised.value.path == FIRST
        assert (raised.value.offset == 0) == (offset < START)
        assert raised.value.offset <= offset
        assert f"at offset {raised.value.offset}" in str(raised.value)
        files.flip(FIRST, offset, 1 << offset % 8)
    assert read(files).last_index == 5


def test_flipped_bit_in_the_last_batch_is_never_read_as_data():
    """One wrong bit in the last record makes it torn or damaged, but never other content.

    In its body it is always damage: nothing of a complete body is missing.
    """
    files = log_of(batch(1, 2))
    start = used(files)
    files = log_of(batch(1, 2), batch(3, 4))
    image, end = files.content(FIRST), used(files)
    for offset in range(start, end):
        files.put(FIRST, image)
        files.flip(FIRST, offset, 1 << offset % 8)
        if start + record.HEADER_BYTES <= offset < end - 1:
            with pytest.raises(LogDamaged, match="altered"):
                read(files)
        else:
            assert read(files).entries == entries(1, 2)


def test_garbage_after_the_last_batch_is_cut():
    """Bytes after the last record that are no record are wiped."""
    files = log_of(batch(1, 2))
    image, end = files.content(FIRST), used(files)
    garbage = record.MAGIC + b"garbage" * 50 + record.MAGIC
    files.put(FIRST, image[:end] + garbage + image[end + len(garbage) :])
    contents = read(files)
    assert (contents.entries, contents.torn_bytes) == (entries(1, 2), len(garbage))
    assert_goes_on(files, contents)


def test_grown_or_shrunk_file_is_brought_back_to_its_size():
    """Garbage behind the end of a segment, or zeros missing from it, change nothing."""
    files = log_of(batch(1, 2))
    image, end = files.content(FIRST), used(files)
    for other in (image + b"garbage", image[: end + 10]):
        files.put(FIRST, other)
        contents = read(files)
        assert contents.entries == entries(1, 2)
        assert files.content(FIRST) == image


def test_lost_record_in_the_middle_is_damage():
    """A record that reads as zeros is damage if a later one is intact."""
    files = log_of(batch(1, 2))
    start = used(files)
    files = log_of(batch(1, 2), batch(3, 4))
    middle = used(files)
    files = log_of(batch(1, 2), batch(3, 4), batch(5, 6))
    image = files.content(FIRST)
    files.put(FIRST, image[:start] + bytes(middle - start) + image[middle:])
    with pytest.raises(
        LogDamaged, match=f"offset {start}: an intact record follows at .* {middle}"
    ):
        read(files)


def test_damage_is_seen_even_if_the_last_batch_is_torn():
    """The header of a torn record vouches for everything before it."""
    files = log_of(batch(1, 2))
    start = used(files)
    files = log_of(batch(1, 2), batch(3, 4))
    middle = used(files)
    files = log_of(batch(1, 2), batch(3, 4), batch(5, 6))
    image = files.content(FIRST)
    torn = image[: middle + record.HEADER_BYTES + 3]
    files.put(FIRST, torn + bytes(len(image) - len(torn)))
    assert read(files).entries == entries(1, 4)
    files.put(FIRST, torn + bytes(len(image) - len(torn)))
    files.flip(FIRST, start + record.HEADER_BYTES + 1)
    with pytest.raises(LogDamaged):
        read(files)


def three_segments() -> MemoryFiles:
    files = log_of(*(batch(n, n, size=4000) for n in range(1, 11)))
    assert segment.segment_name(3) in files.names("log")
    return files


def test_lost_end_of_an_earlier_segment_is_damage():
    """A segment vouches for the last record of the one before it."""
    files = three_segments()
    image, end = files.content(FIRST), used(files)
    files.put(FIRST, image[: end - 1] + bytes(len(image) - end + 1))
    with pytest.raises(LogDamaged) as raised:
        read(files)
    assert raised.value.path == FIRST


@pytest.mark.parametrize("number", [1, 2])
def test_lost_segment_is_damage(number: int):
    """A segment that is missing before the last one is damage."""
    files = three_segments()
    files.drop(f"log/{segment.segment_name(number)}")
    with pytest.raises(LogDamaged):
        read(files)


def test_only_segment_lost_is_damage():
    """A log that has lost its only segment is not mistaken for a new one."""
    files = log_of(batch(1, 2))
    files.drop(FIRST)
    with pytest.raises(LogDamaged, match="missing"):
        read(files)


def test_zeroed_segment_is_damage():
    """A segment that reads as zeros is damage, also the last one."""
    for path in (FIRST, SECOND, f"log/{segment.segment_name(3)}"):
        files = three_segments()
        files.put(path, bytes(SEGMENT_BYTES))
        with pytest.raises(LogDamaged, match="header"):
            read(files)


def test_segment_under_another_name_is_damage():
    """A segment put in the place of another one is refused."""
    files = three_segments()
    files.put(SECOND, files.content(FIRST))
    with pytest.raises(LogDamaged):
        read(files)
    files = log_of(batch(1, 1))
    files.put(SECOND, files.content(FIRST))
    files.drop(FIRST)
    with pytest.raises(LogDamaged):
        read(files)


def test_segment_of_another_log_is_damage():
    """A segment of another log with the same numbers is refused."""
    files = three_segments()
    other = MemoryFiles()
    log, _ = open_segments(
        other, "log", segment_bytes=SEGMENT_BYTES, first_segment_bytes=SEGMENT_BYTES,
        random_bytes=lambda count: b"\1" * count,
    )  # fmt: skip
    log.close()
    files.put(FIRST, other.content(FIRST))
    with pytest.raises(LogDamaged, match="another log"):
        read(files)


def test_segments_lost_from_the_start_are_damage_after_a_cut():
    """A log that was cut knows which segments it still needs."""
    bench = MemoryLogBench()
    bench.open()
    for n in range(1, 14):
        bench.write(batch(n, n, size=4000))
    bench.log.cut(4)
    bench.settle()
    names = [name for name in bench.files.names("log") if name.endswith(".log")]
    bench.log.close()
    assert names[0] == segment.segment_name(2)
    assert read(bench.files).boundary_index == 4
    bench.files.drop(f"log/{names[0]}")
    with pytest.raises(LogDamaged, match="older segments"):
        read(bench.files)


def test_crash_between_cut_and_removal_of_the_files():
    """A cut whose files were not removed in time is completed at the next start."""
    bench = MemoryLogBench()
    bench.open()
    for n in range(1, 14):
        bench.write(batch(n, n, size=4000))
    bench.files.fail("unlink")
    bench.log.cut(9)
    bench.settle()
    bench.files.crash()
    assert segment.segment_name(1) in bench.files.names("log")
    contents = bench.open()
    assert (contents.boundary_index, contents.last_index) == (9, 13)
    assert segment.segment_name(1) not in bench.files.names("log")
    assert segment.segment_name(2) not in bench.files.names("log")


def test_leftover_of_an_earlier_opening_is_not_a_record():
    """A record of an earlier epoch behind the last one of a newer epoch is no later record."""
    files = log_of(batch(1, 2))
    start = used(files)
    files = log_of(batch(1, 2), batch(3, 9))
    leftover = files.content(FIRST)
    files.put(FIRST, leftover[:start] + bytes(len(leftover) - start))
    bench = MemoryLogBench(files)
    bench.open()
    bench.write(batch(3, 3))
    end = used(files)
    image = files.content(FIRST)
    old = leftover[start : start + record.HEADER_BYTES]
    files.put(FIRST, image[: end + 30] + old + image[end + 30 + len(old) :])
    assert read(files).entries == entries(1, 3)


def test_records_inside_values_are_just_values():
    """A value that contains the image of a record never makes a torn batch look damaged."""
    foreign = record.build_record([record.encode_batch(batch(1, 1))], 7, 1, START)
    value = LogBatch(entries=[Entry(1, 3, data=foreign * 40)])
    files = log_of(batch(1, 2), value)
    image = files.content(FIRST)
    end = used(files)
    files.put(FIRST, image[: end - 1] + bytes(len(image) - end + 1))
    assert read(files).entries == entries(1, 2)


def test_intact_record_with_impossible_content_is_damage():
    """A record whose checksum is right but which contradicts the log before it is damage."""
    for impossible in (batch(5, 5), LogBatch(entries=[Entry(1, 2), Entry(1, 4)])):
        files = log_of(batch(1, 1))
        salt = record.salt_of(bytes(16), 1)
        end = used(files)
        forged = record.build_record([record.encode_batch(impossible)], salt, 1, end)
        image = files.content(FIRST)
        files.put(FIRST, image[:end] + forged + image[end + len(forged) :])
        with pytest.raises(LogDamaged, match="entry|gaps"):
            read(files)


def test_install_survives_a_torn_batch_after_it():
    """A snapshot note is durable on its own: what follows it may be torn."""
    files = log_of(batch(1, 5), LogBatch(install=SnapshotMetadata(index=50, term=3)), batch(51, 60))
    image = files.content(FIRST)
    end = used(files)
    files.put(FIRST, image[: end - 3] + bytes(len(image) - end + 3))
    contents = read(files)
    assert (contents.boundary_index, contents.boundary_term, contents.entries) == (50, 3, [])
    assert contents.install == SnapshotMetadata(index=50, term=3)


def test_log_of_a_newer_release_is_refused():
    """A log in a newer format is refused as such, not taken for damage."""
    files = log_of(batch(1, 2))
    image = files.content(FIRST)
    fields = (segment.FORMAT + 1).to_bytes(4, "little") + image[16 : segment.HEADER_BYTES]
    checksum = google_crc32c.value(fields).to_bytes(4, "little")
    files.put(FIRST, segment.MAGIC + checksum + fields + image[segment.HEADER_BYTES :])
    with pytest.raises(SchemaTooNew, match="log format 2"):
        read(files)
