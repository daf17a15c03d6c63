"""coordctl against a cluster of three: endpoints, learners, and leadership that moves."""

import json
from collections.abc import Iterator

import pytest

from coordinator_sdk.testing import ClusterProcess
from tests.cli.ctl import Ctl

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcess]:
    """Three members."""
    made = ClusterProcess(tmp_path_factory.mktemp("cluster"))
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def ctl(cluster: ClusterProcess) -> Ctl:
    """coordctl that is told of one member."""
    return Ctl(cluster.members[0].url)


def rows(text: str) -> list[list[str]]:
    """Take lines of values apart."""
    return [line.split(", ") for line in text.splitlines()]


def test_all_members_are_asked(cluster: ClusterProcess, ctl: Ctl) -> None:
    """endpoint status and health ask all members with --cluster, whichever one was given."""
    status = rows(ctl.ok("endpoint", "status", "--cluster"))
    assert {row[0] for row in status} == set(cluster.urls)
    assert sorted(row[4] for row in status) == ["false", "false", "true"]
    done = ctl.run("endpoint", "health", "--cluster")
    assert done.returncode == 0
    assert done.stderr.count("is healthy") == 3


def test_leadership_moves(ctl: Ctl) -> None:
    """move-leader makes the named member the leader, and says who led before."""
    status = json.loads(ctl.ok("endpoint", "status", "--cluster", "-w", "json"))
    leader = status[0]["Status"]["leader"]
    ids = [one["Status"]["header"]["member_id"] for one in status]
    target = next(member for member in ids if member != leader)
    told = ctl.ok("move-leader", f"{target:x}")
    assert told == f"Leadership transferred from {leader:x} to {target:x}\n"
    status = json.loads(ctl.ok("endpoint", "status", "-w", "json"))
    assert status[0]["Status"]["leader"] == target


def test_a_learner_is_started_with_what_was_printed(cluster: ClusterProcess, ctl: Ctl) -> None:
    """A member starts with what member add printed, shows as a learner, is promoted, and goes."""
    joiner = cluster.joiner()
    assert joiner.name is not None
    printed = ctl.ok("member", "add", joiner.name, f"--peer-urls={joiner.peer_url}")
    told = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    value = {name: json.loads(text) for name, text in told.items()}
    member = printed.split()[1]
    at = joiner.options.index("--initial-cluster")
    assert set(value["ETCD_INITIAL_CLUSTER"].split(",")) == set(joiner.options[at + 1].split(","))
    joiner.options[at + 1] = value["ETCD_INITIAL_CLUSTER"]
    joiner.options[joiner.options.index("--initial-cluster-state") + 1] = value[
        "ETCD_INITIAL_CLUSTER_STATE"
    ]
    joiner.spawn()
    joiner.wait_until_ready(60.0)
    of_joiner = Ctl(joiner.url)
    [row] = rows(of_joiner.ok("endpoint", "status"))
    assert (row[1], row[4], row[5]) == (member, "false", "true")
    assert of_joiner.ok("put", "written", "at a learner") == "OK\n"
    assert ctl.ok("get", "written").splitlines() == ["written", "at a learner"]
    promoted = ctl.ok("member", "promote", member)
    assert promoted.split()[:3] == ["Member", member, "promoted"]
    [listed] = [row for row in rows(ctl.ok("member", "list")) if row[0] == member]
    assert (listed[1], listed[2], listed[5]) == ("started", joiner.name, "false")
    ctl.ok("member", "remove", member)
    assert len(rows(ctl.ok("member", "list"))) == 3
    cluster.remove(joiner)


def test_nobody_is_added_while_one_is_down(cluster: ClusterProcess, ctl: Ctl) -> None:
    """While a voter is down nobody is added, nor one that works removed; the one down may go."""
    down = next(one for one in cluster.followers() if one.url != ctl.endpoint)
    listed = {row[2]: row[0] for row in rows(ctl.ok("member", "list"))}
    assert down.name is not None
    down.kill()
    add = ("member", "add", "x", "--peer-urls=http://127.0.0.1:1")
    first = cluster.members[0].name
    assert first is not None
    for words in (add, ("member", "remove", listed[first])):
        refused = ctl.run(*words, "--command-timeout=2s")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "etcdserver: unhealthy cluster" in refused.stderr
    ctl.ok("member", "remove", listed[down.name])
    assert len(rows(ctl.ok("member", "list"))) == 2
    cluster.remove(down)
