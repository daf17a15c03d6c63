"""coordctl for operators: formats, maintenance, the past, mirrors, what a cluster looks like."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from coordinator_sdk.testing import CoordinatorProcess, running
from tests.cli.ctl import PATIENCE_SECONDS, Ctl, environment, until

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


def as_etcdctl(ctl: Ctl, *args: str) -> subprocess.CompletedProcess[str]:
    """Run coordctl as etcdctl's scripts do."""
    return subprocess.run(
        ctl.command(*args),
        capture_output=True,
        text=True,
        env={**environment(ctl.endpoint), "ETCDCTL_API": "3"},
        timeout=PATIENCE_SECONDS,
    )


def test_answers_have_fields(ctl: Ctl) -> None:
    """-w fields names every field of an answer, with bytes quoted."""
    ctl.ok("put", "fields/a", 'x"y')
    told = ctl.ok("get", "fields/a", "-w", "fields").splitlines()
    assert [line.split(" : ")[0].strip('"') for line in told] == [
        *("ClusterID", "MemberID", "Revision", "RaftTerm"),
        *("Key", "CreateRevision", "ModRevision", "Version", "Value", "Lease", "More", "Count"),
    ]
    assert '"Value" : "x\\"y"' in told


@pytest.mark.slow
def test_members_are_boxed(ctl: Ctl) -> None:
    """-w table draws a box around members and endpoints."""
    for command in (("member", "list"), ("endpoint", "status"), ("endpoint", "hashkv")):
        rule, titles, *_ = ctl.ok(*command, "-w", "table").splitlines()
        assert set(rule) == {"+", "-"}
        assert len(titles) == len(rule)


@pytest.mark.slow
def test_history_is_compacted_and_alarms_are_told(ctl: Ctl) -> None:
    """compaction forgets history; there are no alarms; every member's hash is told."""
    revision = json.loads(ctl.ok("put", "old", "1", "-w", "json"))["header"]["revision"]
    ctl.ok("put", "old", "2")
    told = ctl.ok("compaction", "--physical", str(revision + 1))
    assert told == f"compacted revision {revision + 1}\n"
    assert "required revision has been compacted" in ctl.run("get", "old", "--rev=1").stderr
    assert ctl.ok("alarm", "list") == ctl.ok("alarm", "disarm") == ""
    [one] = json.loads(ctl.ok("endpoint", "hashkv", "--cluster", "-w", "json"))
    assert one["HashKV"]["compact_revision"] == revision + 1
    assert ctl.ok("defrag").startswith("Finished defragmenting etcd member[")


@pytest.mark.slow
def test_listings_look_back(ctl: Ctl) -> None:
    """at runs a listing as of a revision; what cannot look back is refused."""
    revision = json.loads(ctl.ok("put", "then", "1", "-w", "json"))["header"]["revision"]
    ctl.ok("del", "then")
    assert ctl.ok("at", str(revision), "get", "then") == "then\n1\n"
    assert ctl.ok("at", str(revision), "lock", "ls").split() == [
        *("LOCK", "TOKEN", "HOLDER", "SINCE", "WAITING", "REASON")
    ]
    done = ctl.run("at", str(revision), "put", "then", "2")
    assert (done.returncode, done.stdout) == (128, "")
    assert "at: only get" in done.stderr


@pytest.mark.slow
def test_keys_are_mirrored(ctl: Ctl) -> None:
    """make-mirror copies what there is and then every change, under another prefix."""
    ctl.ok("put", "from/a", "1")
    ctl.ok("put", "from/b", "2")
    mirror = ctl.start("make-mirror", ctl.endpoint, "--prefix=from/", "--dest-prefix=to/")
    until("the first copy", lambda: ctl.ok("get", "to/", "--prefix") == "to/a\n1\nto/b\n2\n")
    ctl.ok("del", "from/a")
    ctl.ok("put", "from/b", "3")
    until("the changes", lambda: ctl.ok("get", "to/", "--prefix") == "to/b\n3\n")
    assert mirror.interrupt() == -signal.SIGINT


@pytest.mark.slow
def test_a_load_is_judged(ctl: Ctl) -> None:
    """check perf writes at a rate, judges it and leaves nothing behind."""
    found = json.loads(ctl.run("check", "perf", "--duration=1", "-w", "json").stdout)
    assert found["writesPerSecond"] > 0
    assert found["errors"] == {}
    assert ctl.ok("get", "/etcdctl-check-perf/", "--prefix", "--keys-only") == ""
    assert "none of s, m, l, xl" in ctl.run("check", "perf", "--load=huge").stderr


@pytest.mark.slow
def test_a_cluster_is_examined(ctl: Ctl) -> None:
    """doctor looks at every member; an unreachable one is a failure with advice."""
    found = json.loads(ctl.ok("doctor", "-w", "json"))
    assert {one["level"] for one in found} <= {"ok", "warn"}
    assert {"versions", "leader", "clocks", "majority"} <= {one["check"] for one in found}
    done = Ctl("127.0.0.1:1").run("doctor", "-w", "json", "--dial-timeout=1s")
    assert done.returncode == 1
    assert any(one["level"] == "fail" and one["advice"] for one in json.loads(done.stdout))


def test_members_are_looked_at_again_and_again(ctl: Ctl) -> None:
    """top prints a table for each look where nobody sits at a terminal."""
    told = ctl.ok("top", "--count=2", "--interval=10ms")
    assert told.count("MEMBER") == 2
    assert told.count("leader") == 2


@pytest.mark.slow
def test_instances_are_drained_by_others(ctl: Ctl) -> None:
    """service maintenance and drain set the status of an instance somebody else registered."""
    registered = ctl.start("service", "register", "shop", "10.0.0.1:80", "--instance=one")
    registered.shows("instance one registered")
    needs = ctl.run("service", "maintenance", "shop", "one")
    assert (needs.returncode, "--reason" in needs.stderr) == (128, True)
    told = ctl.ok("service", "maintenance", "shop", "one", "--reason=disk")
    assert told == "instance one is maintenance\n"
    assert "maintenance (disk)" in ctl.ok("service", "show", "shop")
    assert ctl.ok("service", "drain", "shop", "one") == "instance one is draining\n"
    assert ctl.ok("service", "drain", "shop", "one", "--off") == "instance one is passing\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str, ctl: Ctl) -> None:
    """completion prints a script that knows commands and their flags; no server is asked."""
    script = Ctl("127.0.0.1:1").ok("completion", shell)
    assert "force-release" in script
    assert "print-value-only" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_etcdctls_locks_are_keys(ctl: Ctl) -> None:
    """With ETCDCTL_API=3 a lock is a key of etcd's recipe, and a failed command gives 1."""
    code = "import os; print(os.environ['ETCD_LOCK_KEY'])"
    done = as_etcdctl(ctl, "lock", "recipe", "--", sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("recipe/")
    failed = as_etcdctl(ctl, "lock", "recipe", "--", "sh", "-c", "exit 3")
    assert (failed.returncode, failed.stderr) == (1, "Error: exit status 3\n")
    assert ctl.ok("get", "recipe/", "--prefix") == ""


def test_a_leader_runs_a_command(ctl: Ctl) -> None:
    """elect NAME VALUE -- command runs it while leading, with the token, and gives its code."""
    code = "import os, sys; print(os.environ['COORD_ELECTION_TOKEN']); sys.exit(7)"
    done = ctl.run("elect", "chief", "me", "--", sys.executable, "-c", code)
    assert done.returncode == 7
    assert int(done.stdout) > 0


def test_etcd_v2_is_refused(ctl: Ctl) -> None:
    """ETCDCTL_API=2 is refused with the reason."""
    done = subprocess.run(
        ctl.command("version"),
        capture_output=True,
        text=True,
        env={**os.environ, "ETCDCTL_API": "2"},
    )
    assert done.returncode == 1
    assert "etcd v2" in done.stderr
