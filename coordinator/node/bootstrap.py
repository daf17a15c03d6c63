"""How a member comes into its cluster: alone, as one of its first members, or later.

What was decided at the first start lies in the data directory; later starts do not look at the
flags any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from coordinator.config import ConfigError
from coordinator.node.discovery import discover
from coordinator.node.initial_cluster import InitialCluster, peer_url
from coordinator.replica import membership
from coordinator.replica.members import Member
from coordinator.wire.peer_description import (
    FORMAT,
    DescribedMember,
    PeerDescription,
    decode_description,
    encode_description,
)

if TYPE_CHECKING:
    from coordinator.config import Config
    from coordinator.replica.machine import Machine
    from coordinator.storage.identity import Identity

_log = logging.getLogger("coordinator.node")

Inquire = Callable[[str], Awaitable[bytes]]
"""Ask the member at a peer URL for its `PeerDescription`; raises if nobody answers there."""

TRIES_MAX: Final = 60
"""Rounds of inquiries until a joining member gives up finding anybody."""
WRONG_ANSWERS_MAX: Final = 5
"""Rounds whose answers do not fit: a member may lag behind what has just been changed."""
PAUSE_S: Final = 0.5


class CannotJoin(Exception):
    """The cluster can't be joined as the flags ask for; the message says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a member comes from.

    Attributes:
        member_id: Its id.
        cluster_id: Id of its cluster.
        members: The first members of a new cluster; empty for one that is alone or joins.
        peers: The other members of a cluster that is joined: their peer URLs by id.
        is_joining: Whether the cluster exists without it.
    """

    member_id: int
    cluster_id: int
    members: tuple[Member, ...] = ()
    peers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    is_joining: bool = False


def own_peer_urls(config: Config) -> tuple[str, ...]:
    """Give the peer URLs of this member, as the others are to use them."""
    return tuple(
        peer_url(url) for url in config.initial_advertise_peer_urls or config.listen_peer_urls
    )


def goes_on_without_peers(config: Config, peers: Mapping[int, object]) -> bool:
    """Tell whether a member may run although its peer URLs are taken.

    Only one that has no peers, and whose peer URLs nobody chose.
    """
    return not peers and config.origins.get("listen_peer_urls", "default") == "default"


def initial_cluster(config: Config) -> InitialCluster | None:
    """Read ``--initial-cluster`` and check it against the flags that name this member.

    Returns:
        The cluster; None for a member that is alone.

    Raises:
        ConfigError: The flags do not fit together.
    """
    text = config.initial_cluster
    if not text:
        if config.initial_cluster_state == "existing":
            raise ConfigError(
                ["--initial-cluster-state existing: needs --initial-cluster with all members"]
            )
        return None
    try:
        cluster = InitialCluster.parse(text, config.initial_cluster_token)
    except ValueError as error:
        raise ConfigError([f"--initial-cluster {text}: {error}"]) from None
    named = cluster.names_to_urls.get(config.name)
    if named is None:
        rule = f"couldn't find local name {config.name!r} in the initial cluster configuration"
        raise ConfigError([f"--initial-cluster {text}: {rule}"])
    own = own_peer_urls(config)
    flag = (
        "--initial-advertise-peer-urls"
        if config.initial_advertise_peer_urls
        else ("--listen-peer-urls")
    )
    problems = [
        f"--initial-cluster has {config.name}={url} but missing from {flag}={','.join(own)}"
        for url in named
        if url not in own
    ] + [
        f"{flag} has {url} but missing from --initial-cluster={text}"
        for url in own
        if url not in named
    ]
    if problems:
        raise ConfigError(problems)
    return cluster


async def find_origin(
    config: Config, draw: Callable[[int], int], inquire: Inquire | None
) -> Origin:
    """Find out who this member is, at its first start.

    Args:
        config: Its settings.
        draw: Gives that many random bits.
        inquire: How to ask the members of a cluster that is joined.

    Raises:
        ConfigError: The settings do not fit together.
        CannotJoin: The cluster can't be joined as the settings ask for.
    """
    cluster = await discover(config) or initial_cluster(config)
    if cluster is None:
        return Origin(draw(62) + 1, draw(62) + 1)
    if config.initial_cluster_state == "new":
        return founder(config, cluster)
    assert inquire is not None, "nobody can be asked without a network"
    return await join(cluster, config.name, inquire)


def founder(config: Config, cluster: InitialCluster) -> Origin:
    """Give the origin of one of the first members of a cluster."""
    members = tuple(
        Member(cluster.member_id(name), name if cluster.has_names else "", [], 0, 0, sorted(urls))
        for urls, name in sorted((urls, name) for name, urls in cluster.names_to_urls.items())
    )
    return Origin(cluster.member_id(config.name), cluster.cluster_id, members)


def note_changed_flags(config: Config, member: Member | None) -> None:
    """Say so if the flags ask for what only the first start looks at."""
    urls = sorted(own_peer_urls(config))
    if member is not None and member.peer_urls and member.peer_urls != urls:
        _log.warning(
            "this member is known to the others at %s, not at %s as the flags say; coordctl "
            "member update changes that",
            ",".join(member.peer_urls),
            ",".join(urls),
        )


def describe(identity: Identity, machine: Machine) -> bytes:
    """Answer the inquiry of a member that wants to join."""
    members = [
        DescribedMember(one.member, one.name, one.peer_urls, one.is_learner)
        for one in membership.member_infos(machine)
    ]
    return encode_description(
        PeerDescription(FORMAT, identity.cluster_id, identity.member_id, members)
    )


async def join(
    cluster: InitialCluster,
    name: str,
    inquire: Inquire,
    *,
    pause_s: float = PAUSE_S,
    tries_max: int = TRIES_MAX,
) -> Origin:
    """Find out from the members of a cluster who we are in it.

    Args:
        cluster: What ``--initial-cluster`` says: all members, this one included.
        name: This one among them.
        inquire: How to ask.
        pause_s: Time between two rounds, in seconds.
        tries_max: Rounds until it gives up.

    Raises:
        CannotJoin: Nobody answers, this member has not been added, or the flags say otherwise
            than the members who its peers are.
    """
    own = cluster.names_to_urls[name]
    asked = [url for other, urls in cluster.names_to_urls.items() if other != name for url in urls]
    if not asked:
        raise CannotJoin("--initial-cluster names no other member: there is nobody to join")
    problem, wrong_answers = "", 0
    for round_number in range(tries_max):
        if round_number:
            await asyncio.sleep(pause_s)
        answers, silent = await _ask(asked, inquire)
        if round_number == 0 and not answers:
            _log.info("waiting for an answer from one of %s", ", ".join(asked))
        for answer in answers:
            problem = _mismatch(cluster, own, answer)
            if not problem:
                return _joiner(own, answer)
        if not answers:
            problem = problem or silent
            continue
        wrong_answers += 1
        if wrong_answers == WRONG_ANSWERS_MAX:
            break
    raise CannotJoin(problem)


async def rejoin(
    cluster: InitialCluster,
    name: str,
    identity: Identity,
    inquire: Inquire,
    *,
    pause_s: float = PAUSE_S,
    tries_max: int = TRIES_MAX,
) -> dict[int, tuple[str, ...]]:
    """Find the others again, for a member that was stopped before it had anything of the state.

    Who it is was decided the first time; the members may have changed since, so what the flags
    say of them does not count.

    Args:
        cluster: What ``--initial-cluster`` says: whom to ask.
        name: This member among them.
        identity: Who it is.
        inquire: How to ask.
        pause_s: Time between two rounds, in seconds.
        tries_max: Rounds until it gives up.

    Returns:
        The peer URLs of the other members by id.

    Raises:
        CannotJoin: Nobody answers, or nobody of its cluster knows it.
    """
    asked = [url for other, urls in cluster.names_to_urls.items() if other != name for url in urls]
    problem, wrong_answers = "", 0
    for round_number in range(tries_max):
        if round_number:
            await asyncio.sleep(pause_s)
        answers, problem = await _ask(asked, inquire)
        wrong_answers += bool(answers)
        for answer in answers:
            peers = {one.member: tuple(one.peer_urls) for one in answer.members}
            if answer.cluster == identity.cluster_id and identity.member_id in peers:
                del peers[identity.member_id]
                return peers
            problem = (
                f"the data directory belongs to member {identity.member_id:016x} of cluster "
                f"{identity.cluster_id:016x}, which cluster {answer.cluster:016x} does not know: "
                "begin with an empty data directory"
            )
        if wrong_answers == WRONG_ANSWERS_MAX:
            break
    raise CannotJoin(problem)


async def _ask(urls: Sequence[str], inquire: Inquire) -> tuple[list[PeerDescription], str]:
    """Ask everybody; gives the answers, and what to say if there is none."""
    answers: list[PeerDescription] = []
    reasons: list[str] = []
    for url, answer in zip(
        urls, await asyncio.gather(*map(inquire, urls), return_exceptions=True), strict=True
    ):
        if isinstance(answer, asyncio.CancelledError):
            raise answer
        if isinstance(answer, BaseException):
            reasons.append(f"{url}: {str(answer) or type(answer).__name__}")
            continue
        try:
            description = decode_description(answer)
        except msgspec.DecodeError as error:
            reasons.append(f"{url}: {error}")
            continue
        if description.members:
            answers.append(description)
        else:
            reasons.append(f"{url}: is about to join itself")
    return answers, (
        "could not retrieve cluster information from the given URLs: " + "; ".join(reasons)
    )


def _mismatch(cluster: InitialCluster, own: Iterable[str], answer: PeerDescription) -> str:
    """Say how the flags and an answer contradict each other; empty if they do not."""
    told = {frozenset(urls) for urls in cluster.names_to_urls.values()}
    known = {frozenset(member.peer_urls) for member in answer.members}
    if frozenset(own) not in known:
        return (
            f"no member of cluster {answer.cluster:016x} has the peer URLs {','.join(own)}: add "
            "this member first, with coordctl member add"
        )
    if len(told) != len(known):
        return (
            "error validating peerURLs: member count is unequal: --initial-cluster names "
            f"{len(told)}, cluster {answer.cluster:016x} has {len(known)}"
        )
    if told != known:
        strange = sorted(url for urls in told - known for url in urls)
        return (
            "error validating peerURLs: unmatched member while checking PeerURLs: no member of "
            f"cluster {answer.cluster:016x} is reached at {','.join(strange)}"
        )
    return ""


def _joiner(own: Sequence[str], answer: PeerDescription) -> Origin:
    ours = next(one for one in answer.members if set(one.peer_urls) == set(own))
    peers = {
        one.member: tuple(one.peer_urls) for one in answer.members if one.member != ours.member
    }
    return Origin(ours.member, answer.cluster, peers=peers, is_joining=True)
