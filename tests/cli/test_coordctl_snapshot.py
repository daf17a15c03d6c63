"""coordctl snapshot against a real coordinator: save, status, restore."""

import hashlib
import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.cli import coordctl
from coordinator_sdk.errors import ClusterMismatch, CoordinatorError
from coordinator_sdk.sync import Client
from coordinator_sdk.testing import CoordinatorProcess, free_port, running
from tests.cli.ctl import Ctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        with Client(process.url) as client:
            for number in range(30):
                client.kv.put(f"key/{number % 10}", str(number))
        yield process


@pytest.fixture
def ctl(server: CoordinatorProcess) -> Iterator[Ctl]:
    made = Ctl(f"127.0.0.1:{server.port}")
    yield made
    made.end()


@pytest.fixture
def backup(ctl: Ctl, tmp_path: Path) -> Path:
    path = tmp_path / "backup.db"
    ctl.ok("snapshot", "save", str(path))
    return path


def test_a_backup_is_saved_and_shown(ctl: Ctl, server: CoordinatorProcess, tmp_path: Path) -> None:
    """`snapshot save` writes one private file; `snapshot status` says what it holds, offline."""
    path = tmp_path / "backup.db"
    said = ctl.ok("snapshot", "save", str(path)).splitlines()
    content = path.read_bytes()
    digest = hashlib.sha256(content[:-32]).hexdigest()
    assert content[-32:].hex() == digest
    assert said[0] == f"Snapshot saved at {path}"
    assert said[2] == f"sha256 {digest}, verified"
    assert path.stat().st_mode & 0o777 == 0o600
    elsewhere = Ctl("127.0.0.1:1")
    shown = json.loads(elsewhere.ok("snapshot", "status", str(path), "-w", "json"))
    assert (shown["sha256"], shown["totalSize"]) == (digest, len(content))
    with Client(server.url) as client:
        assert shown["cluster"] == f"{client.cluster.status().cluster:016x}"
        assert shown["revision"] == client.revision
    assert shown["totalKey"] == 10
    row = elsewhere.ok("snapshot", "status", str(path)).strip().split(", ")
    assert row[:3] == [digest, str(shown["revision"]), "10"]
    table = elsewhere.ok("snapshot", "status", str(path), "--write-out=table").splitlines()
    assert [cell.strip() for cell in table[1].split("|")[1:-1]] == [
        "HASH",
        "REVISION",
        "TOTAL KEYS",
        "TOTAL SIZE",
    ]
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == row
    assert len(set(map(len, table))) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    left = sorted(each.name for each in server.data_dir.iterdir())
    assert [name for name in left if "backup" in name] == []


@pytest.mark.slow
def test_a_backup_under_load_restores(tmp_path: Path) -> None:
    """What was acknowledged before a backup is there after a restore; what was held is not."""
    stop = threading.Event()
    answered: dict[str, int] = {}

    def load(url: str, name: str) -> None:
        with Client(url) as client:
            number = 0
            while not stop.is_set():
                client.kv.put(f"load/{name}", str(number))
                answered[name] = number
                number += 1

    with running(tmp_path / "old") as old, Client(old.url) as client:
        ctl = Ctl(f"127.0.0.1:{old.port}")
        threads = [threading.Thread(target=load, args=(old.url, str(n))) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            held = client.locks.lock("backup", ttl=60)
            held.acquire()  # Never given back: its cluster will be gone.
            client.kv.put("guarded", "1", guard=held)
            while len(answered) < 3:
                client.cluster.ping()
            before = dict(answered)
            ctl.ok("snapshot", "save", str(tmp_path / "backup.db"))
            stop.set()
            for thread in threads:
                thread.join()
            # The same endpoint, the same client, which still believes that it holds the lock.
            said = ctl.ok(
                "snapshot", "restore", str(tmp_path / "backup.db"), "--data-dir",
                str(tmp_path / "new"),
            )  # fmt: skip
            assert "sessions have ended" in said
            old.kill()
            with running(tmp_path / "new", port=old.port) as new, Client(new.url) as later:
                for name, number in before.items():
                    found = later.kv.get(f"load/{name}")
                    assert found is not None
                    assert int(found.value) >= number
                with pytest.raises(CoordinatorError):
                    later.kv.put("guarded", "2", guard=held)
                with pytest.raises((ClusterMismatch, CoordinatorError)):
                    client.kv.put("guarded", "3", guard=held)
                with later.locks.lock("backup") as again:
                    assert again.token > held.token + (1 << 40)
                    later.kv.put("guarded", "4", guard=again)
                kept = later.kv.get("guarded")
                assert kept is not None
                assert kept.value == b"4"
        finally:
            stop.set()


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Run coordctl in this process; gives its exit code and the one line that it says."""
    status = coordctl.main(args)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return status, said.err


def test_damage_is_refused(
    capsys: pytest.CaptureFixture[str], backup: Path, tmp_path: Path
) -> None:
    """A flipped bit anywhere is refused by `status` and by `restore`, which makes nothing."""
    content = backup.read_bytes()
    rng = random.Random(3)
    target = str(tmp_path / "new")
    for _ in range(3):
        altered = bytearray(content)
        altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
        backup.write_bytes(altered)
        for args in (("status",), ("restore", "--data-dir", target)):
            status, said = refusal(capsys, "snapshot", args[0], str(backup), *args[1:])
            assert status == 1
            assert said.startswith("Error: ")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_members_are_restored_from_one_file(ctl: Ctl, backup: Path, tmp_path: Path) -> None:
    """Members restored with the same --initial-cluster belong to one new cluster."""
    cluster = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380"
    made = []
    for number, name in enumerate("ab", 1):
        said = ctl.ok(
            "snapshot", "restore", str(backup), "--data-dir", str(tmp_path / name), "--name", name,
            "--initial-cluster", cluster, "--initial-cluster-token", "again",
            "--initial-advertise-peer-urls", f"http://10.0.0.{number}:2380", "-w", "json",
        )  # fmt: skip
        made.append(json.loads(said))
    assert made[0]["cluster"] == made[1]["cluster"]
    assert made[0]["member"] != made[1]["member"]
    assert made[0]["revision"] == made[1]["revision"] > 1 << 40


@pytest.mark.slow
def test_a_restored_cluster_runs(ctl: Ctl, backup: Path, tmp_path: Path) -> None:
    """Three members restored from one file find each other and serve what was in it."""
    ports = {name: free_port() for name in "abc"}
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in ports.items())
    members = []
    for name, port in ports.items():
        url = f"http://127.0.0.1:{port}"
        ctl.ok(
            "snapshot", "restore", str(backup), "--data-dir", str(tmp_path / name), "--name", name,
            "--initial-cluster", cluster, "--initial-advertise-peer-urls", url,
        )  # fmt: skip
        options = ["--name", name, "--listen-peer-urls", url]
        members.append(CoordinatorProcess(tmp_path / name, options=options))
    starting = [threading.Thread(target=member.start) for member in members]
    for thread in starting:
        thread.start()
    try:
        for thread in starting:
            thread.join()
        with Client(*(member.url for member in members)) as client:
            found = client.kv.get("key/7")
            assert found is not None
            assert found.value == b"27"
            assert client.kv.put("key/7", "on").revision > 1 << 40
            assert sorted(one.name for one in client.cluster.members()) == ["a", "b", "c"]
    finally:
        for member in members:
            member.kill()


def test_what_is_wrong_is_named(
    server: CoordinatorProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    backup: Path,
    tmp_path: Path,
) -> None:
    """Every refusal is one line that says why."""
    monkeypatch.setenv("COORDCTL_ENDPOINTS", server.url)
    etcd = tmp_path / "etcd.db"
    etcd.write_bytes(bytes(16) + bytes.fromhex("edda0ced") + bytes(40_000))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not touch")
    path, new = str(backup), str(tmp_path / "new")
    for args, text in (
        (("save",), "needs one argument"),
        (("save", str(tmp_path / "nowhere" / "b.db")), "can't be written: No such file"),
        (("status", str(tmp_path / "nowhere")), "No such file"),
        (("status", str(etcd)), "is a snapshot of etcd"),
        (("status", path, "-w", "xml"), "xml"),
        (("restore", path, "--wal-dir", new), "the log lies in the data directory"),
        (("restore", path, "--name", str(tmp_path / "no" / "name")), "name.coordinator"),
        (("restore", str(etcd), "--data-dir", new), "is a snapshot of etcd"),
        (("restore", path, "--data-dir", str(tmp_path / "full")), "is not empty"),
        (("restore", path, "--data-dir", new, "--skip-hash-check"), "is not offered"),
        (
            ("restore", path, "--data-dir", new, "--initial-cluster", "a=http://h:1"),
            "couldn't find local name",
        ),
        (("restore", path, "--data-dir", str(tmp_path / "no" / "way")), "does not exist"),
    ):
        status, said = refusal(capsys, "snapshot", *args)
        assert status != 0, args
        assert text in said, (args, said)
    assert not (tmp_path / "new").exists()
