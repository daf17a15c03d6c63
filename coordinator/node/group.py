"""What makes a member one of several: links, the way to the leader, snapshots, members."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from coordinator.node.absence import Absence
from coordinator.node.bootstrap import goes_on_without_peers, own_peer_urls
from coordinator.node.failover import Failover
from coordinator.node.forward import Forwarding
from coordinator.node.installation import Installation
from coordinator.node.keepalive import Keepalive
from coordinator.node.membership import Membership
from coordinator.node.peers import REMOVED, Links, Peers
from coordinator.node.snapshots import SnapshotReceiver, SnapshotSender
from coordinator.node.standings import Standings
from coordinator.transport.errors import CannotListen
from coordinator.transport.network import StreamNetwork
from coordinator_sdk.errors import CoordinatorError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from coordinator.config import Config
    from coordinator.keyspace.watch import WatchHub
    from coordinator.node.boot import Booted
    from coordinator.node.persistence import Persistence
    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.domain import Domain
    from coordinator.replica.effects import Proposal
    from coordinator.replica.machine import Machine
    from coordinator.transport.ports import PeerNetwork
    from coordinator.transport.traffic import LinkState
    from coordinator.wire.raft import Message

_log = logging.getLogger("coordinator.node")

PATIENCE_MS = 2000
"""How long requests wait for a leader, beside two election timeouts."""


class MembershipEnded(Exception):
    """This member is no member of its cluster any more; it has to be added anew."""


class MemberRemoved(MembershipEnded):
    """It was taken out of the cluster on purpose: starting it again is of no use."""


class Group:
    """The member's part in its group; what the turn loop calls its links.

    Args:
        booted: The member.
        network: The links to the others.
        persistence: Its state database, to make snapshots of and to replace.
        hub: Its watches.
        config: Its settings.
        domains: The domains of a state machine that a snapshot brings.
        surroundings: Where chance comes from.
        schedule: Asks for a turn.
        on_machine: Told of the machine that a snapshot has brought.
        on_failure: Told of an error after which the member must stop.

    Attributes:
        membership: Changes of the members, and the transfer of leadership.
        absence: Whether there has been no leader for long.
        installation: Takes in the snapshots of others.
        standings: How the others stand, as far as anybody here wants to know.
        sync_times: How long the syncs of this member's log take.
    """

    def __init__(
        self,
        booted: Booted,
        network: PeerNetwork,
        persistence: Persistence,
        hub: WatchHub,
        config: Config,
        domains: Sequence[Domain],
        surroundings: Surroundings,
        *,
        schedule: Callable[[], None],
        on_machine: Callable[[Machine], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._booted = booted
        self._replica = replica = booted.replica
        self._network = network
        self._config = config
        self._schedule = schedule
        self._on_failure = on_failure
        draw, timeout_ms = surroundings.random, config.election_timeout_ms
        self.sync_times = surroundings.sync_times
        self._links = Links(network)
        self.standings = Standings(self._links, schedule, asyncio.get_running_loop().time)
        self._find_leader(draw, 2 * timeout_ms + PATIENCE_MS)
        self._sender = SnapshotSender(
            network,
            persistence,
            match_of=self._match_of,
            last_index=lambda: replica.raw.last_index,
        )
        self.installation = Installation(
            booted,
            persistence,
            hub,
            let_go=self._sender.stop,
            on_machine=on_machine,
            schedule=schedule,
        )
        self._receiver = SnapshotReceiver(
            booted.directory,
            domains,
            applied_index=lambda: replica.machine.index,
            offer=self.installation.offer,
        )
        self.membership = Membership(
            replica,
            is_linked=network.is_linked,
            schedule=schedule,
            election_timeout_ms=timeout_ms,
            strict=config.strict_reconfig_check,
            learners_max=config.max_learners,
        )
        self._meet(draw)
        self.absence = Absence(replica.raw, self._peers.heard_ms, timeout_ms=timeout_ms)

    def _find_leader(self, draw: random.Random, patience_ms: int) -> None:
        """Put together what passes on to the leader whatever only it can do."""
        self._forwarding = Forwarding(
            self._replica,
            self._links,
            propose=self._propose_here,
            first_call=draw.getrandbits(62),
            patience_ms=patience_ms,
        )
        self._keepalive = Keepalive(
            self._replica,
            self._links,
            first_call=draw.getrandbits(62),
            patience_ms=patience_ms,
        )
        self._failover = Failover(
            self._replica.raw,
            draw,
            call_later=asyncio.get_running_loop().call_later,
            schedule=self._schedule,
        )

    def _meet(self, draw: random.Random) -> None:
        """Put together what takes in what the others send."""
        self._peers = peers = Peers(
            self._booted.identity,
            draw.getrandbits(62) + 1,
            self._replica,
            self._network,
            self._links,
            own_peer_urls(self._config),
            schedule=self._schedule,
            on_refused=self._refused,
            on_failure=self._on_failure,
        )
        peers.forwarding, peers.keepalive = self._forwarding, self._keepalive
        peers.standings = self.standings
        peers.failover, peers.sender, peers.receiver = self._failover, self._sender, self._receiver
        peers.set_peers(self._booted.peers)

    # ------------------------------------------------------------ coming and going

    async def start(self) -> None:
        """Listen for peers and dial them; a lone member that nobody gave addresses can do without.

        Raises:
            CannotListen: An address is taken.
        """
        try:
            await self._network.start(self._peers)
        except CannotListen as error:
            if not goes_on_without_peers(self._config, self._booted.peers):
                raise
            _log.warning("going on without addresses for peers: %s", error)
            await self._network.start(self._peers, listens=False)

    def links(self) -> list[LinkState]:
        """Tell of the links to the others, for metrics."""
        network = self._network
        return network.links() if isinstance(network, StreamNetwork) else []

    @property
    def has_successor(self) -> bool:
        """Whether another voter could lead."""
        own = self._booted.identity.member_id
        voters = self._replica.machine.conf_state.voters
        return any(voter != own and self._network.is_linked(voter) for voter in voters)

    async def hand_over(self) -> None:
        """Let another member lead before this one goes, if there is one."""
        if self._replica.is_leader and len(self._replica.machine.conf_state.voters) > 1:
            with contextlib.suppress(CoordinatorError):
                await self.membership.hand_over()

    async def stop(self) -> None:
        """End what is under way with the others."""
        self._failover.is_stopped = True
        await self._receiver.stop()
        await self._sender.stop()

    # ------------------------------------------------------------ what users ask for

    def propose(self, proposal: Proposal) -> None:
        """Have a command proposed, by this member or by the one that leads."""
        if self.absence.is_long:
            self._replica.refuse(proposal, self.absence.error)
        elif self._replica.raw.is_leader:
            self._propose_here(proposal)
        else:
            self._forwarding.submit(proposal)
        self._schedule()

    def _propose_here(self, proposal: Proposal) -> None:
        if self.membership.concerns(proposal.body) and not proposal.in_doubt:
            self.membership.admit(proposal, self._admitted)
        else:
            self._replica.propose(proposal)

    def _admitted(self, proposal: Proposal) -> None:
        """Propose what the leader has looked at, or pass it on if another leads by now."""
        if self._replica.raw.is_leader or proposal.placed is not None:
            # For another member: refused here, it turns to the new leader by itself.
            self._replica.propose(proposal)
        else:
            self._forwarding.submit(proposal)
        self._schedule()

    def ask_leases(
        self,
        leases: list[int],
        done: Callable[[list[int] | CoordinatorError], None],
        *,
        only_look: bool,
    ) -> None:
        """Have the leader renew leases, or tell how long they live on; see `Keepalive.ask`."""
        if self.absence.is_long:
            done(self.absence.error)
            return
        self._keepalive.ask(leases, done, only_look=only_look)
        self._schedule()

    # ------------------------------------------------------------ what the loop calls

    def gather(self) -> None:
        """Pass on what waits for a leader; before each turn."""
        self._forwarding.dispatch()
        self._keepalive.dispatch()

    @property
    def has_frames(self) -> bool:
        """Whether anything besides messages waits for the peers."""
        return self._links.has_frames

    def send(self, messages: list[Message]) -> None:
        """Send messages, and whatever else there is for the peers."""
        self._peers.send(messages)

    def tick(self) -> None:
        """Let one tick pass."""
        self.absence.tick(self._replica.now_ms)
        self._failover.tick(self._replica.now_ms, self._config.election_timeout_ms)
        self._forwarding.tick()
        self._keepalive.tick()
        self.membership.tick()
        self._peers.follow_members()
        if self._booted.identity.member_id in self._replica.machine.removed:
            self._on_failure(MemberRemoved("this member was removed from the cluster"))

    def _refused(self, reason: str) -> None:
        kind = MemberRemoved if reason.startswith(REMOVED) else MembershipEnded
        self._on_failure(kind(reason))

    def _match_of(self, member: int) -> int | None:
        its = self._replica.raw.raft.tracker.progress.get(member)
        return its.match if its is not None and self._replica.is_leader else None
