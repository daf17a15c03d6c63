"""Coming into a cluster: as one of its first members, or later, or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import Config, ConfigError
from coordinator.domains import DOMAINS
from coordinator.node import boot, bootstrap
from coordinator.node.boot import Booted
from coordinator.node.bootstrap import CannotJoin, Inquire, Origin, join
from coordinator.node.initial_cluster import InitialCluster
from coordinator.node.surroundings import ThisMachine
from coordinator.storage.errors import DirectoryForeign, StateDamaged
from coordinator.wire.peer_description import (
    FORMAT,
    DescribedMember,
    PeerDescription,
    decode_description,
    encode_description,
)
from coordinator.wire.raft import ConfState
from tests.node.running import config as lone_config
from tests.node.running import copied, lose_state

URLS = {"a": "http://127.0.0.1:11", "b": "http://127.0.0.1:12", "c": "http://127.0.0.1:13"}
CLUSTER = ",".join(f"{name}={url}" for name, url in URLS.items())
PARSED = InitialCluster.parse(CLUSTER, "t")


def config(path: Path, name: str = "a", **changes: Any) -> Config:
    """Give settings of one of the first members."""
    made = lone_config(
        path,
        name=name,
        initial_cluster=CLUSTER,
        initial_advertise_peer_urls=(URLS.get(name, URLS["a"]),),
        initial_cluster_token="t",
    )
    return replace(made, **changes)


async def booted(config: Config, inquire: Inquire | None = None) -> Booted:
    """Open a member without running it."""
    return await boot.boot(config, DOMAINS, ThisMachine(), lambda *_: None, inquire)


async def closed(member: Booted) -> Booted:
    """Close a member again."""
    await member.store.close()
    member.close()
    return member


async def test_first_members_begin_alike(tmp_path: Path):
    """All first members have the same cluster, configuration and table, without asking."""
    found = [await closed(await booted(config(tmp_path / name, name))) for name in URLS]
    assert {one.identity.cluster_id for one in found} == {PARSED.cluster_id}
    assert [one.identity.member_id for one in found] == list(PARSED.member_ids.values())
    voters = tuple(sorted(PARSED.member_ids.values()))
    for one in found:
        assert one.machine.conf_state == ConfState(voters=voters)
        assert one.machine.members == found[0].machine.members
        assert (one.machine.index, one.machine.term) == (boot.FIRST_INDEX, boot.FIRST_TERM)
        assert not one.is_only_voter
        assert not one.is_joining
        assert set(one.peers) == set(voters) - {one.identity.member_id}
    assert sorted(found[0].peers.values()) == [(URLS["b"],), (URLS["c"],)]
    names = {known.name: known.peer_urls for known in found[0].machine.members.values()}
    assert names == {name: [url] for name, url in URLS.items()}


async def test_a_restart_does_not_look_at_the_flags(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The members are those that the data directory knows, whatever the flags say meanwhile."""
    first = await closed(await booted(config(tmp_path)))
    again = await closed(await booted(lone_config(tmp_path)))
    assert again.identity == first.identity
    assert again.machine.members == first.machine.members
    assert again.machine.conf_state == first.machine.conf_state
    assert again.peers == first.peers
    [line] = caplog.messages
    assert "coordctl member update" in line


async def test_a_restart_with_the_same_flags_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Flags that did not change are no news."""
    for _ in range(2):
        await closed(await booted(config(tmp_path)))
    assert caplog.messages == []


async def test_an_interrupted_first_start_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A first start that ended between database and log has all members at the next one."""
    first, second = tmp_path / "first", tmp_path / "second"

    async def fails(*_: object) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(boot, "_write", fails)
        with pytest.raises(RuntimeError):
            await booted(config(first))
    found = await closed(await booted(lone_config(copied(first, second))))
    assert found.machine.conf_state.voters == tuple(sorted(PARSED.member_ids.values()))
    assert len(found.machine.members) == 3


async def test_a_lost_database_of_a_member_is_refused(tmp_path: Path):
    """Without its database a member does not make up who the others are."""
    await closed(await booted(config(tmp_path)))
    lose_state(tmp_path)
    with pytest.raises(StateDamaged, match="rebuild"):
        await booted(lone_config(tmp_path))


async def test_another_members_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An unfinished directory of a lone member becomes no member of a cluster."""

    async def fails(*_: object) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(boot, "_begin_group", fails)
        with pytest.raises(RuntimeError):
            await booted(lone_config(tmp_path))
    with pytest.raises(DirectoryForeign, match="not among"):
        await booted(config(tmp_path))


async def test_a_lone_member_has_ids_of_its_own(tmp_path: Path):
    """Without --initial-cluster a member is alone, under ids that nobody else has."""
    one = await closed(await booted(lone_config(tmp_path / "one")))
    two = await closed(await booted(lone_config(tmp_path / "two")))
    assert one.is_only_voter
    assert one.identity.cluster_id != two.identity.cluster_id
    assert one.identity.member_id != two.identity.member_id
    assert one.peers == {}


WRONG = [
    ({"name": "d"}, "couldn't find local name 'd' in the initial cluster configuration"),
    ({"initial_cluster": "a"}, "'a' is not written as NAME=URL"),
    ({"initial_cluster": "a=x"}, "a peer URL is written as"),
    (
        {"initial_advertise_peer_urls": (URLS["b"],)},
        "--initial-cluster has a=http://127.0.0.1:11 but missing from --initial-advertise-peer",
    ),
    (
        {"initial_advertise_peer_urls": (URLS["a"], "http://127.0.0.1:99")},
        "--initial-advertise-peer-urls has http://127.0.0.1:99 but missing from --initial-cluster",
    ),
    (
        {"initial_advertise_peer_urls": ()},
        "--listen-peer-urls has http://127.0.0.1:2380 but missing",
    ),
    (
        {"initial_cluster": "", "initial_cluster_state": "existing"},
        "--initial-cluster-state existing: needs --initial-cluster",
    ),
]


@pytest.mark.parametrize(("changes", "text"), WRONG, ids=lambda one: str(one)[:40])
def test_flags_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], text: str):
    """Flags that contradict each other are refused by name."""
    with pytest.raises(ConfigError) as refused:
        bootstrap.initial_cluster(config(tmp_path, **changes))
    assert text in str(refused.value)


async def test_refused_flags_leave_nothing_behind(tmp_path: Path):
    """After a start that was refused for its flags, the next one begins the cluster."""
    with pytest.raises(ConfigError):
        await booted(config(tmp_path, initial_cluster="a"))
    assert not (await closed(await booted(config(tmp_path)))).is_joining


# ---------------------------------------------------------------- joining


def answering(
    members: Sequence[tuple[int, str]], cluster: int = 5, learner: int = 3
) -> tuple[Inquire, list[str]]:
    """Stand for members that answer alike; also gives who was asked."""
    asked: list[str] = []
    description = PeerDescription(
        FORMAT,
        cluster,
        1,
        [DescribedMember(member, "", [url], member == learner) for member, url in members],
    )

    async def inquire(url: str) -> bytes:
        asked.append(url)
        if url == URLS["b"]:
            raise ConnectionRefusedError("nobody there")
        return encode_description(description)

    return inquire, asked


MEMBERS = [(1, URLS["a"]), (2, URLS["b"]), (3, URLS["c"])]


def joining(path: Path) -> Config:
    """Give settings of a member that joins."""
    return config(path, "c", initial_cluster_state="existing")


async def test_a_joining_member_is_told_who_it_is(tmp_path: Path):
    """A joining member gets its ids from any other one, and begins with nothing."""
    inquire, asked = answering(MEMBERS)
    member = await closed(await booted(joining(tmp_path), inquire))
    assert (member.identity.cluster_id, member.identity.member_id) == (5, 3)
    assert set(asked) == {URLS["a"], URLS["b"]}
    assert member.peers == {1: (URLS["a"],), 2: (URLS["b"],)}
    assert member.is_joining
    assert not member.is_only_voter
    assert member.machine.conf_state == ConfState()
    raw = member.replica.raw
    for _ in range(100):
        raw.tick()
    assert (raw.term, raw.lead, raw.last_index) == (boot.FIRST_TERM, 0, 0)


async def test_a_joining_member_that_restarts_joins_on(tmp_path: Path):
    """A member that got no snapshot before it stopped asks again, and never begins by itself."""
    inquire, asked = answering(MEMBERS)
    first = await closed(await booted(joining(tmp_path), inquire))
    asked.clear()
    again = await closed(await booted(joining(tmp_path), inquire))
    assert again.identity == first.identity
    assert again.is_joining
    assert asked
    for flags in (lone_config(tmp_path), config(tmp_path, "c")):
        with pytest.raises(CannotJoin, match="has not caught up"):
            await booted(flags, inquire)
    other, _ = answering([(1, URLS["a"]), (2, URLS["b"]), (4, URLS["c"])])
    with pytest.raises(CannotJoin, match="empty data directory"):
        await booted(joining(tmp_path), other)


async def test_the_members_may_change_before_a_joining_member_restarts(tmp_path: Path):
    """A member that got no snapshot before it stopped finds the others, whoever they are by now."""
    inquire, _ = answering(MEMBERS)
    await closed(await booted(joining(tmp_path), inquire))
    inquire, _ = answering([(1, URLS["a"]), (3, URLS["c"]), (5, "http://10.0.0.5:2380")])
    again = await closed(await booted(joining(tmp_path), inquire))
    assert again.peers == {1: (URLS["a"],), 5: ("http://10.0.0.5:2380",)}


async def joined(members: Sequence[tuple[int, str]], tries_max: int = 2, name: str = "c") -> Origin:
    inquire, _ = answering(members)
    return await join(PARSED, name, inquire, pause_s=0, tries_max=tries_max)


async def test_who_was_not_added_does_not_join():
    """A member that the cluster does not know is told to be added first."""
    with pytest.raises(CannotJoin, match="coordctl member add"):
        await joined([(1, URLS["a"]), (2, URLS["b"])])


async def test_members_must_be_those_of_the_cluster():
    """Flags that name other members than the cluster has are refused in etcd's words."""
    with pytest.raises(CannotJoin, match="member count is unequal"):
        await joined([*MEMBERS, (4, "http://127.0.0.1:14")])
    with pytest.raises(CannotJoin, match="unmatched member while checking PeerURLs"):
        await joined([MEMBERS[0], MEMBERS[2], (4, "http://127.0.0.1:14")])


async def test_nobody_answers():
    """A member whom nobody answers tries for a while, then says whom it asked, and why not."""
    asked: list[str] = []

    async def inquire(url: str) -> bytes:
        asked.append(url)
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(CannotJoin) as refused:
        await join(PARSED, "c", inquire, pause_s=0, tries_max=7)
    assert len(asked) == 14
    assert "could not retrieve cluster information from the given URLs" in str(refused.value)
    assert f"{URLS['a']}: nobody there" in str(refused.value)


async def test_an_answer_may_come_late():
    """A member that cannot be told yet who it is asks again."""
    answers: list[Exception | bytes] = [
        ConnectionRefusedError("nobody there"),
        b"\xc1 not a description",
        encode_description(PeerDescription(FORMAT, 5, 1, [])),
        encode_description(PeerDescription(FORMAT, 5, 1, [DescribedMember(1, "a", [URLS["a"]])])),
    ]
    good, _ = answering(MEMBERS)

    async def inquire(url: str) -> bytes:
        if url == URLS["b"] or not answers:
            return await good(url)
        answer = answers.pop(0)
        if isinstance(answer, bytes):
            return answer
        raise answer

    origin = await join(PARSED, "c", inquire, pause_s=0)
    assert (origin.member_id, answers) == (3, [])


async def test_nobody_else_is_named():
    """A cluster of oneself can't be joined."""
    alone = InitialCluster.parse(f"c={URLS['c']}", "t")
    inquire, _ = answering(MEMBERS)
    with pytest.raises(CannotJoin, match="nobody to join"):
        await join(alone, "c", inquire)


async def test_a_member_describes_its_cluster(tmp_path: Path):
    """What a member answers to an inquiry is what one that joins needs."""
    member = await closed(await booted(config(tmp_path)))
    told = decode_description(bootstrap.describe(member.identity, member.machine))
    assert (told.cluster, told.member) == (member.identity.cluster_id, member.identity.member_id)
    assert {tuple(one.peer_urls) for one in told.members} == {(url,) for url in URLS.values()}


def test_a_lone_member_may_run_without_peers(tmp_path: Path):
    """Only a member whose peer URLs nobody chose, and who has no peers, goes on without them."""
    assert bootstrap.goes_on_without_peers(lone_config(tmp_path), {})
    assert not bootstrap.goes_on_without_peers(lone_config(tmp_path), {2: (URLS["b"],)})
    chosen = replace(lone_config(tmp_path), origins={"listen_peer_urls": "flag"})
    assert not bootstrap.goes_on_without_peers(chosen, {})
