"""coordctl blame against a real coordinator."""

import json
from collections.abc import Iterator

import pytest

from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.sync import Client
from coordinator_sdk.testing import CoordinatorProcess, running
from tests.cli.ctl import Ctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
def ctl(server: CoordinatorProcess) -> Iterator[Ctl]:
    made = Ctl(f"127.0.0.1:{server.port}")
    yield made
    made.end()


def test_blame_of_a_key(ctl: Ctl, server: CoordinatorProcess) -> None:
    """Each change of a key with its revision, time, address and operation, the newest first."""
    ctl.ok("put", "blamed", "1")
    ctl.ok("put", "blamed", "2")
    ctl.ok("del", "blamed")
    titles, *rows = ctl.ok("blame", "blamed").splitlines()
    columns = ["REVISION", "TIME", "USER", "FROM", "OPERATION", "CHANGE", "RECORD", "CAUSE"]
    assert titles.split() == columns
    for row, operation in zip(rows, ("kv.delete", "kv.put", "kv.put"), strict=True):
        assert "127.0.0.1:" in row
        assert operation in row
    shown = json.loads(ctl.ok("blame", "blamed", "--limit", "1", "-w", "json"))
    with Client(server.url) as client:
        found = client.cluster.blame("blamed")
        assert [one.kind for one in found.lines] == ["delete", "put", "put"]
        assert [one.operation for one in found.lines] == ["kv.delete", "kv.put", "kv.put"]
        assert shown["lines"][0]["revision"] == found.lines[0].revision
        assert shown["more"] is True
        with pytest.raises(InvalidRequest):
            client.cluster.blame("blamed", domain="locks", name="x")
    assert "older changes: --before" in ctl.ok("blame", "blamed", "--limit", "1")


def test_blame_of_a_lock(ctl: Ctl, server: CoordinatorProcess) -> None:
    """Everything that belongs to a lock: who took it, and that its release was by its holder."""
    with Client(server.url) as client:
        with client.locks.lock("blamed"):
            pass
        found = client.cluster.blame(domain="locks", name="blamed")
        assert [(one.what, one.kind, one.operation) for one in found.lines] == [
            ("holder", "delete", "locks.release"),
            ("holder", "put", "locks.acquire"),
        ]
    _, *rows = ctl.ok("blame", "lock", "blamed").splitlines()
    assert len(rows) == 2
    assert "locks.release" in rows[0]
    assert ctl.ok("blame", "lock", "never").splitlines()[1:] == []


def test_a_wrong_kind_is_refused(ctl: Ctl) -> None:
    """Of two words, the first is a kind; which there are is told."""
    refused = ctl.run("blame", "bolt", "x")
    assert refused.returncode == 128
    assert "lock, service" in refused.stderr
