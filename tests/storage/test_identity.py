"""Who may start on a data directory."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.storage.errors import (
    DirectoryForeign,
    DirectoryInUse,
    SchemaTooNew,
    StorageDamaged,
    StorageFailed,
)
from coordinator.storage.files import DiskFiles
from coordinator.storage.identity import DataDirectory, Identity
from coordinator.storage.segments import open_segments


def made(path: Path, **options: int) -> Identity:
    """Make a data directory with a log and an identity, and close it."""
    directory = DataDirectory.open(path)
    open_segments(DiskFiles(), str(directory.log_path), first_segment_bytes=4096)[0].close()
    identity = directory.create_identity(**({"member_id": 7, "cluster_id": 9} | options))
    directory.close()
    return identity


def test_new_directory_belongs_to_nobody(tmp_path: Path):
    """A new directory has no identity until it gets one, and then keeps it."""
    path = tmp_path / "data"
    directory = DataDirectory.open(path)
    assert directory.identity is None
    with pytest.raises(DirectoryForeign, match="not belong to any member"):
        directory.require()
    directory.close()
    identity = made(path)
    assert (identity.member_id, identity.cluster_id) == (7, 9)
    assert 0 < identity.directory_id < 1 << 63
    directory = DataDirectory.open(path)
    assert directory.identity == directory.require(member_id=7, cluster_id=9) == identity
    with pytest.raises(DirectoryForeign):
        directory.create_identity(8)
    directory.close()


def test_directories_are_told_apart(tmp_path: Path):
    """Two directories of the same member have different ids: a wiped one is noticed."""
    assert made(tmp_path / "a").directory_id != made(tmp_path / "b").directory_id


def test_directory_of_another_member_is_refused(tmp_path: Path):
    """A member does not start on the directory of another member or cluster."""
    made(tmp_path / "data")
    directory = DataDirectory.open(tmp_path / "data")
    with pytest.raises(DirectoryForeign, match=f"member {7:016x}, not to {8:016x}"):
        directory.require(member_id=8)
    with pytest.raises(DirectoryForeign, match="cluster"):
        directory.require(cluster_id=10)
    with pytest.raises(DirectoryForeign):
        directory.bind_cluster(10)
    directory.close()


def test_cluster_is_filled_in_once(tmp_path: Path):
    """A member that joins learns its cluster later; from then on it never changes."""
    made(tmp_path / "data", cluster_id=0)
    directory = DataDirectory.open(tmp_path / "data")
    assert directory.require(cluster_id=5).cluster_id == 0
    assert directory.bind_cluster(5).cluster_id == 5
    assert directory.bind_cluster(5).cluster_id == 5
    directory.close()
    directory = DataDirectory.open(tmp_path / "data")
    assert directory.require(cluster_id=5).cluster_id == 5
    directory.close()


def test_second_process_is_refused(tmp_path: Path):
    """A second process on the directory is refused and told who holds it."""
    directory = DataDirectory.open(tmp_path / "data")
    code = (
        "import sys\n"
        "from coordinator.storage.errors import DirectoryInUse\n"
        "from coordinator.storage.identity import DataDirectory\n"
        "try:\n    DataDirectory.open(sys.argv[1])\n"
        "except DirectoryInUse as error:\n    print(error.pid, error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.startswith(
        f"{os.getpid()} data directory {tmp_path / 'data'} is in use by"
    )
    with pytest.raises(DirectoryInUse):
        DataDirectory.open(tmp_path / "data")
    directory.close()
    directory.close()
    DataDirectory.open(tmp_path / "data").close()


def test_foreign_directory_is_refused(tmp_path: Path):
    """A directory that holds something else is left alone."""
    folder = tmp_path / "etcd"
    (folder / "member").mkdir(parents=True)
    with pytest.raises(DirectoryForeign, match="'member'"):
        DataDirectory.open(folder)
    assert [path.name for path in folder.iterdir()] == ["member"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(DirectoryForeign, match="not a directory"):
        DataDirectory.open(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    DataDirectory.open(tmp_path / "empty").close()


def test_directory_is_private(tmp_path: Path):
    """The directory has mode 0700 and the files in it 0600."""
    made(tmp_path / "data")
    for folder, _, names in os.walk(tmp_path / "data"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o600


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "field"])
def test_damaged_identity_is_refused(tmp_path: Path, damage: str):
    """An identity file that is not exactly what was written is damage."""
    made(tmp_path / "data")
    path = tmp_path / "data" / "log" / "identity"
    content = path.read_text()
    changed = {
        "flip": content.replace(f"{7:016x}", f"{6:016x}"),
        "cut": content[: len(content) // 2],
        "empty": "",
        "field": json.dumps(json.loads(content) | {"more": 1}, indent=2),
    }
    path.write_text(changed[damage])
    with pytest.raises(StorageDamaged):
        DataDirectory.open(tmp_path / "data")


def test_newer_identity_is_refused(tmp_path: Path):
    """An identity written by a newer release is refused, not taken for damage."""
    made(tmp_path / "data")
    path = tmp_path / "data" / "log" / "identity"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(SchemaTooNew, match="format 2"):
        DataDirectory.open(tmp_path / "data")


def test_lost_log_or_identity_is_damage(tmp_path: Path):
    """A member without its log or its identity does not start as a new one."""
    made(tmp_path / "data")
    log = tmp_path / "data" / "log"
    (log / "0000000000000001.log").unlink()
    with pytest.raises(StorageDamaged, match="lost the log"):
        DataDirectory.open(tmp_path / "data")
    (log / "identity").unlink()
    (tmp_path / "data" / "state.db").touch()
    with pytest.raises(StorageDamaged, match="lost its identity"):
        DataDirectory.open(tmp_path / "data")


def test_identity_is_written_in_one_step(tmp_path: Path):
    """Whichever operation fails while an identity is written, the old or the new one is there."""

    class Failing(DiskFiles):
        left = 0

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, "planted")

        def create(self, path: str) -> int:
            self._step()
            return super().create(path)

        def write(self, fd: int, data: bytes, offset: int) -> int:
            self._step()
            return super().write(fd, data[:20], offset)

        def sync(self, fd: int) -> None:
            self._step()
            super().sync(fd)

        def rename(self, source: str, target: str) -> None:
            self._step()
            super().rename(source, target)

    made(tmp_path / "data", cluster_id=0)
    disk = Failing()
    for count in range(20):
        directory = DataDirectory.open(tmp_path / "data", disk)
        before = directory.require()
        disk.left = count
        try:
            directory.bind_cluster(5)
            break
        except StorageFailed:
            assert directory.identity == before
        finally:
            directory.close()
    assert count > 5
    directory = DataDirectory.open(tmp_path / "data")
    assert directory.require().cluster_id == 5
    directory.close()
