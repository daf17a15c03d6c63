"""The disk in memory forgets, fills up and fails the way real ones do."""

import errno

import pytest

from coordinator.storage.memory import MemoryFiles


def written(files: MemoryFiles, data: bytes, *, is_synced: bool = True) -> int:
    fd = files.create("d/f")
    files.write(fd, data, 0)
    if is_synced:
        files.sync(fd)
        files.sync_directory("d")
    return fd


def test_unsynced_writes_are_lost():
    """A power cut takes what was written after the last sync, and closes every descriptor."""
    files = MemoryFiles()
    fd = written(files, b"abc")
    files.write(fd, b"XYZ", 1)
    assert files.read(fd, 10, 0) == b"aXYZ"
    assert files.pending_bytes("d/f") == 3
    files.crash()
    assert files.content("d/f") == b"abc"
    with pytest.raises(OSError, match="not open"):
        files.read(fd, 1, 0)


def test_unsynced_writes_can_be_torn():
    """A power cut may keep the first bytes of what was not synced."""
    files = MemoryFiles()
    fd = written(files, b"abc")
    files.write(fd, b"XYZ", 0)
    files.write(fd, b"UVW", 3)
    files.crash(keep_bytes=4)
    assert files.content("d/f") == b"XYZU"


def test_unsynced_names_are_lost():
    """A power cut undoes creations, renames and removals that were not synced."""
    files = MemoryFiles()
    written(files, b"abc")
    files.rename("d/f", "d/g")
    files.create("d/h")
    files.crash()
    assert files.names("d") == ["f"]
    files.unlink("d/f")
    files.crash()
    assert files.names("d") == ["f"]
    files.unlink("d/f")
    files.sync_directory("d")
    files.crash()
    assert files.names("d") == []


def test_failed_sync_loses_what_it_should_have_written():
    """After a failed sync a later one reports success without having written the data."""
    files = MemoryFiles()
    fd = written(files, b"abc")
    files.write(fd, b"XYZ", 0)
    files.fail("sync_data", errno.EIO)
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        files.sync_data(fd)
    files.sync_data(fd)
    files.crash()
    assert files.content("d/f") == b"abc"


def test_lying_disk_loses_what_it_acknowledged():
    """A disk that lies acknowledges syncs and loses their data all the same."""
    files = MemoryFiles()
    fd = written(files, b"abc")
    files.is_lying = True
    files.write(fd, b"XYZ", 0)
    files.sync(fd)
    files.rename("d/f", "d/g")
    files.sync_directory("d")
    files.crash()
    assert (files.names("d"), files.content("d/f")) == (["f"], b"abc")


def test_full_disk_takes_what_fits():
    """A full disk takes a part of a write, then nothing; overwriting stays possible."""
    files = MemoryFiles()
    files.capacity_bytes = 5
    fd = files.create("d/f")
    assert files.write(fd, b"abcdefgh", 0) == 5
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        files.write(fd, b"x", 5)
    assert files.write(fd, b"XY", 3) == 2
    files.capacity_bytes = None
    assert files.write(fd, b"x", 5) == 1


def test_faults_are_taken_in_turn():
    """Planted faults hit the next calls of their operation, or of any."""
    files = MemoryFiles()
    files.fail("create", errno.ENOSPC, times=2)
    for _ in range(2):
        with pytest.raises(OSError, match=r"\[Errno 28\]"):
            files.create("d/f")
    files.fail("")
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        files.names("d")
    assert files.names("d") == []
    assert files.calls == 4


def test_files_behave_like_files():
    """Opening, creating and truncating follow the rules of the operating system."""
    files = MemoryFiles()
    with pytest.raises(FileNotFoundError):
        files.open("d/f")
    fd = written(files, b"abc")
    with pytest.raises(FileExistsError):
        files.create("d/f")
    files.truncate(fd, 5)
    assert files.content("d/f") == b"abc\0\0"
    files.truncate(fd, 1)
    assert (files.size(fd), files.content("d/f")) == (1, b"a")
    files.write(fd, b"z", 3)
    assert files.content("d/f") == b"a\0\0z"
    files.put("d/g", b"put")
    files.flip("d/g", 0)
    files.crash()
    assert files.content("d/g") == b"qut"
    files.drop("d/g")
    assert files.names("d") == ["f"]
