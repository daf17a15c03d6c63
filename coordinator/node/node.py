"""A running member: what the API talks to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.keyspace.records import USER
from coordinator.keyspace.watch import WatchHub
from coordinator.node.absence import Absence
from coordinator.node.boot import Booted, boot
from coordinator.node.bootstrap import goes_on_without_peers
from coordinator.node.chores import Housekeeping, Retention
from coordinator.node.failover import Failover
from coordinator.node.forward import Forwarding
from coordinator.node.installation import Installation
from coordinator.node.keepalive import Keepalive
from coordinator.node.loop import TurnLoop
from coordinator.node.membership import Membership, publication
from coordinator.node.peers import Links, Peers
from coordinator.node.persistence import Persistence
from coordinator.node.snapshots import SnapshotReceiver, SnapshotSender
from coordinator.node.surroundings import ThisMachine
from coordinator.replica import membership
from coordinator.replica.replica import Proposal, Replica
from coordinator.replica.requests import Outcome
from coordinator.transport.errors import CannotListen
from coordinator_sdk.errors import (
    CoordinatorError,
    NoLeader,
    NoSpace,
    OutcomeUnknown,
    Stopping,
    Unavailable,
    error_from_wire,
)
from coordinator_sdk.protocol.cluster import ClusterStatusResult, MemberInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from coordinator.config import Config
    from coordinator.keyspace.watcher import Fetch
    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.domain import Domain
    from coordinator.replica.machine import Machine
    from coordinator.storage.backup import BackupStatus
    from coordinator.transport.ports import PeerNetwork
    from coordinator.wire.raft import Entry, Message
    from coordinator_sdk.protocol.kv import Event

_log = logging.getLogger("coordinator.node")

PATIENCE_MS = 2000
"""How long requests wait for a leader, beside two election timeouts."""

NO_LEADER = "the cluster has no leader at the moment"
CATCH_UP_EVENTS = 5000
"""Events fed to lagging watches in one turn."""


class MembershipEnded(Exception):
    """This member is no member of its cluster any more; it has to be added anew."""


class Node:
    """One member of a cluster, on the running event loop.

    Args:
        config: The resolved configuration.
        domains: The domains to serve.
        surroundings: The machine underneath; this one by default.

    Attributes:
        keyspace: The published state; read it only between turns, that is, from callbacks.
        hub: Watches on it.
        cluster_id: Id of the cluster.
        member_id: Id of this member.
    """

    def __init__(
        self,
        config: Config,
        domains: Sequence[Domain],
        surroundings: Surroundings | None = None,
    ) -> None:
        self.config = config
        self._surroundings = surroundings or ThisMachine()
        self.started_at = self._surroundings.monotonic_ns() / 1e9
        self.is_stopping = False
        self.failure: BaseException | None = None
        self.stopped = asyncio.Event()
        self._domains = domains
        self._booted: Booted | None = None
        self._network: PeerNetwork | None = None
        self.on_machine: list[Callable[[], None]] = []
        """Told when a snapshot has replaced machine and keyspace."""
        self.on_leaderless: list[Callable[[], None]] = []
        """Told when there has been no leader for two election timeouts: clients should go."""
        self._catching_up: asyncio.Task[None] | None = None
        self._fetches: deque[Fetch] = deque()
        """What the hub has asked for, once, and still waits for."""

    async def start(self) -> None:
        """Open the data directory, take part, and return once there is a leader.

        Raises:
            StorageError: The data directory can't be used; the message says what to do.
        """
        network = self._surroundings.open_network(self.config)
        self._network = network
        booted = await boot(
            self.config, self._domains, self._surroundings, self._publish, network.inquire
        )
        self._booted = booted
        self.name = self.config.name
        self.cluster_id = booted.identity.cluster_id
        self.member_id = booted.identity.member_id
        self.replica: Replica = booted.replica
        self.machine = booted.machine
        self.machine.on_fault = _log_fault
        self.keyspace = booted.machine.keyspace
        self.hub = WatchHub(self.keyspace.log, self.keyspace.compact_revision)
        self._housekeeping = Housekeeping(
            self.machine, _retention(self.config), self.config.quota_backend_bytes
        )
        self._persistence = Persistence(
            booted, entries_kept=self.config.snapshot_count, on_failure=self._fail
        )
        self._connect(booted, network)
        self._loop.start()
        await self._open_links(booted, network)
        if booted.is_only_voter:
            self.replica.raw.campaign()
            self._loop.schedule()
        await self._unless_failed(self._join())

    async def _open_links(self, booted: Booted, network: PeerNetwork) -> None:
        """Listen for peers and dial them; a lone member that nobody gave addresses can do without.

        Raises:
            CannotListen: An address is taken.
        """
        try:
            await network.start(self._peers)
        except CannotListen as error:
            if not goes_on_without_peers(self.config, booted.peers):
                raise
            _log.warning("going on without addresses for peers: %s", error)
            await network.start(self._peers, listens=False)

    def _connect(self, booted: Booted, network: PeerNetwork) -> None:
        """Put together what makes this member one of several."""
        replica, config = self.replica, self.config
        self._links = Links(network)
        self._find_leader()
        self._sender = SnapshotSender(
            network,
            self._persistence,
            match_of=self._match_of,
            last_index=lambda: replica.raw.last_index,
        )
        self._installation = Installation(
            booted,
            self._persistence,
            self.hub,
            let_go=self._sender.stop,
            on_machine=self._take_machine,
            schedule=self._schedule,
        )
        self._peers = peers = Peers(
            booted.identity,
            self._surroundings.random.getrandbits(62) + 1,
            replica,
            network,
            self._links,
            schedule=self._schedule,
            on_refused=lambda reason: self._fail(MembershipEnded(reason)),
            on_failure=self._fail,
        )
        self._failover = Failover(
            replica.raw,
            self._surroundings.random,
            call_later=asyncio.get_running_loop().call_later,
            schedule=self._schedule,
        )
        self._receiver = SnapshotReceiver(
            booted.directory,
            self._domains,
            applied_index=lambda: self.machine.index,
            offer=self._installation.offer,
        )
        peers.forwarding, peers.keepalive = self._forwarding, self._keepalive
        peers.failover, peers.sender, peers.receiver = self._failover, self._sender, self._receiver
        self.membership = Membership(
            replica,
            is_linked=network.is_linked,
            schedule=self._schedule,
            election_timeout_ms=config.election_timeout_ms,
            strict=config.strict_reconfig_check,
            learners_max=config.max_learners,
        )
        peers.set_peers(booted.peers)
        self._loop = TurnLoop(
            replica,
            booted.log,
            self._surroundings,
            links=self,
            commit=self._installation.commit,
            after_apply=self._after_apply,
            on_failure=self._fail,
            on_tick=self._tick,
            pressure=self._persistence,
            tick_ms=config.heartbeat_interval_ms,
        )

    def _find_leader(self) -> None:
        """Put together what passes on to the leader whatever only it can do."""
        replica, draw = self.replica, self._surroundings.random.getrandbits
        self._absence = Absence(
            replica.raw, limit_ms=2 * self.config.election_timeout_ms, told=self.on_leaderless
        )
        patience_ms = 2 * self.config.election_timeout_ms + PATIENCE_MS
        self._forwarding = Forwarding(
            replica,
            self._links,
            propose=self._propose_here,
            first_call=draw(62),
            patience_ms=patience_ms,
        )
        self._keepalive = Keepalive(
            replica, self._links, first_call=draw(62), patience_ms=patience_ms
        )

    async def _unless_failed(self, joining: Coroutine[None, None, None]) -> None:
        """Wait for the group, but not for a member that will never answer again."""
        joined = asyncio.ensure_future(joining)
        ended = asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait((joined, ended), return_when=asyncio.FIRST_COMPLETED)
            if self.failure is not None:
                raise self.failure
            await joined
        finally:
            joined.cancel()
            ended.cancel()

    async def _join(self) -> None:
        await self._until_leader()
        await self._publish_member()

    async def _until_leader(self) -> None:
        """Wait until reads and writes work."""
        while True:
            answer: asyncio.Future[CoordinatorError | None] = _future()
            self.read(partial(_settle, answer))
            if await answer is None:
                return
            await asyncio.sleep(0.01)

    async def _publish_member(self) -> None:
        assert self._booted is not None
        while (told := publication(self.config, self._booted.identity, self.machine)) is not None:
            try:
                await self.execute(told)
                return
            except (Unavailable, OutcomeUnknown):
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Write everything, close everything. Safe to call more than once."""
        if self.is_stopping:
            await self.stopped.wait()
            return
        self.is_stopping = True
        if self._booted is not None:
            if self.failure is None:
                await self._hand_over()
            self._loop.stop()
            self._failover.is_stopped = True
            if self._catching_up is not None:
                self._catching_up.cancel()
            await self._receiver.stop()
            await self._sender.stop()
            await self._loop.settle()
            if self._network is not None:
                await self._network.close()
            with contextlib.suppress(Exception):
                await self._persistence.close(flush=self.failure is None)
            await asyncio.to_thread(self._booted.close)
        elif self._network is not None:
            await self._network.close()
        self.stopped.set()

    async def _hand_over(self) -> None:
        """Let another member lead before this one goes, if there is one."""
        if self.replica.is_leader and not self._booted_alone():
            with contextlib.suppress(CoordinatorError):
                await self.membership.hand_over()

    def _booted_alone(self) -> bool:
        return len(self.machine.conf_state.voters) < 2

    def _fail(self, error: BaseException) -> None:
        """Something broke that must not: stop at once, answer nobody."""
        if self.failure is None:
            self.failure = error
            self._loop.stop()
            self.stopped.set()

    # What users ask for.

    @property
    def term(self) -> int:
        """The current term."""
        return self.replica.raw.term

    @property
    def revision(self) -> int:
        """The published revision."""
        return self.keyspace.revision

    def propose(
        self,
        body: Any,
        *,
        done: Callable[[Outcome], None],
        actor: str = "",
        origin: str = "",
        client: int = 0,
        sequence: int = 0,
        floor: int = 0,
        trace: str = "",
    ) -> None:
        """Propose a command.

        Args:
            body: The command struct, checked already.
            done: Called once, in the turn in which it was applied or refused.
            actor: Who asks.
            origin: From where.
            client: Client id, 0 for none; then ``sequence`` and ``floor`` count.
            sequence: Number of the request.
            floor: The client no longer asks for outcomes below this number.
            trace: W3C trace parent.
        """
        if self.is_stopping:
            error = Stopping("the member is shutting down")
            done(Outcome(0, None, (error.code, error.message, error.details)))
            return
        if self._persistence.is_disk_full and type(body) in self.machine.consuming:
            full = NoSpace("the disk of this member is full; free some space", limit="disk")
            done(Outcome(self.revision, None, (full.code, full.message, full.details)))
            return
        proposal = Proposal(body, done, client, sequence, floor, actor, origin, "", trace)
        if not self.replica.raw.is_leader:
            if self._absence.is_long:
                self.replica.refuse(proposal, NoLeader(NO_LEADER))
                return
            self._forwarding.submit(proposal)
        elif self.membership.concerns(body):
            self.membership.admit(proposal, self._admitted)
        else:
            self.replica.propose(proposal)
        self._loop.schedule()

    def _propose_here(self, proposal: Proposal) -> None:
        if self.membership.concerns(proposal.body):
            self.membership.admit(proposal, self._admitted)
        else:
            self.replica.propose(proposal)

    def _admitted(self, proposal: Proposal) -> None:
        """Propose what the leader has looked at, or pass it on if another leads by now."""
        if self.replica.raw.is_leader or proposal.placed is not None:
            # For another member: refused here, it turns to the new leader by itself.
            self.replica.propose(proposal)
        else:
            self._forwarding.submit(proposal)
        self._loop.schedule()

    async def execute(self, body: Any, **who: Any) -> Outcome:
        """Propose a command and wait for its outcome.

        Raises:
            CoordinatorError: What the command was refused with.
        """
        answer: asyncio.Future[Outcome] = _future()
        self.propose(body, done=partial(_settle, answer), **who)
        outcome = await answer
        if outcome.error is not None:
            raise error_from_wire(*outcome.error)
        return outcome

    def read(
        self,
        done: Callable[[CoordinatorError | None], None],
        *,
        min_revision: int = 0,
        serializable: bool = False,
        max_staleness_ms: int = 0,
    ) -> None:
        """Ask to read the local state.

        Args:
            done: Called with None as soon as the local state is as fresh as asked for, or
                with the error that prevents it. The state is that of a whole entry.
            min_revision: At least this revision.
            serializable: Whether any state will do that is as new as ``min_revision``.
            max_staleness_ms: How old the state may be; 0 means linearizable.
        """
        if self.is_stopping:
            done(Stopping("the member is shutting down"))
        elif serializable and self.revision >= min_revision:
            done(None)
        elif self._absence.is_long:
            done(NoLeader(NO_LEADER))
        else:
            self.replica.read(done)
            self._loop.schedule()

    def keepalive(
        self, leases: list[int], done: Callable[[list[int] | CoordinatorError], None]
    ) -> None:
        """Renew leases, once this member has proved that it leads.

        Args:
            leases: Their ids.
            done: Called with the TTL of each in milliseconds, 0 for one that does not exist,
                or with the error that prevents it.
        """
        self._ask_leader(leases, done, only_look=False)

    def look(self, leases: list[int], done: Callable[[list[int] | CoordinatorError], None]) -> None:
        """Find out how long leases live on, wherever they are timed.

        Args:
            leases: Their ids.
            done: Called with what is left of each in milliseconds, -1 for one that does not
                exist, or with the error that prevents it.
        """
        self._ask_leader(leases, done, only_look=True)

    def _ask_leader(
        self,
        leases: list[int],
        done: Callable[[list[int] | CoordinatorError], None],
        *,
        only_look: bool,
    ) -> None:
        if self.is_stopping:
            done(Stopping("the member is shutting down"))
            return
        if self._absence.is_long:
            done(NoLeader(NO_LEADER))
            return
        self._keepalive.ask(leases, done, only_look=only_look)
        self._loop.schedule()

    def soon(self, work: Callable[[], None]) -> None:
        """Call ``work`` at the end of the turn under way, or in the next one of the event loop."""
        self._loop.soon(work)

    def _now_ms(self) -> int:
        return self._surroundings.monotonic_ns() // 1_000_000

    async def old_values(self, wanted: list[tuple[int, int]]) -> list[bytes | None]:
        """Fetch values of the past, by (mod_revision, sub); None for what compaction took."""
        return await self._persistence.old_values(wanted)

    async def save_backup(self, target: Path) -> BackupStatus:
        """Write a backup of everything applied so far to a file.

        Raises:
            StorageError: The disk is full or failed, or the state is being replaced.
        """
        return await self._persistence.save_backup(target)

    def members(self) -> list[MemberInfo]:
        """Give the members of the cluster, by id."""
        return membership.member_infos(self.machine)

    def alarms(self) -> list[str]:
        """Give the names of the alarms that are raised."""
        raised = {alarm for _, alarm in self.machine.alarms}
        if self.machine.is_full or self._persistence.is_disk_full:
            raised.add("NOSPACE")
        return sorted(raised)

    def status(self) -> ClusterStatusResult:
        """Tell how this member stands."""
        raw = self.replica.raw
        keyspace = self.keyspace
        return ClusterStatusResult(
            self.cluster_id,
            self.member_id,
            self.name,
            __version__,
            raw.lead,
            "learner" if raw.raft.is_learner else raw.raft.state.name.lower(),
            raw.term,
            raw.last_index,
            self.machine.index,
            keyspace.revision,
            keyspace.compact_revision,
            keyspace.key_count(USER),
            keyspace.bytes_used,
            self.machine.quota_bytes,
            self.alarms(),
            watches=len(self.hub),
            leases=len(keyspace.leases),
            uptime_ms=self._now_ms() - int(self.started_at * 1000),
        )

    def is_ready(self) -> bool:
        """Tell whether reads and writes can be served."""
        return (
            self._booted is not None
            and not self.is_stopping
            and self.failure is None
            and self.replica.raw.lead != 0
        )

    # What the loop calls.

    def _schedule(self) -> None:
        self._loop.schedule()

    def gather(self) -> None:
        """Pass on what waits for a leader; the loop asks for it before each turn."""
        self._forwarding.dispatch()
        self._keepalive.dispatch()

    @property
    def has_frames(self) -> bool:
        """Whether anything besides messages waits for the peers."""
        return self._links.has_frames

    def send(self, messages: list[Message]) -> None:
        """Send messages, and whatever else there is for the peers."""
        self._peers.send(messages)

    def _match_of(self, member: int) -> int | None:
        its = self.replica.raw.raft.tracker.progress.get(member)
        return its.match if its is not None and self.replica.is_leader else None

    def _take_machine(self, machine: Machine) -> None:
        """A snapshot has taken the place of the state."""
        self.machine = machine
        self.machine.on_fault = _log_fault
        self.keyspace = machine.keyspace
        self._housekeeping = Housekeeping(
            machine, _retention(self.config), self.config.quota_backend_bytes
        )
        for told in self.on_machine:
            told()

    def _publish(self, revision: int, events: list[tuple[int, Event]]) -> None:
        self.hub.publish(revision, events)

    def _after_apply(self) -> None:
        self._persistence.collect()
        if self.keyspace.compact_revision != self.hub.compact_revision:
            self.hub.compacted(self.keyspace.compact_revision)
        if self.hub.is_lagging:
            self.catch_up()

    def _tick(self) -> None:
        self._absence.tick(self.replica.now_ms)
        self._persistence.tick()
        self._forwarding.tick()
        self._keepalive.tick()
        self.membership.tick()
        self._peers.follow_members()
        if self.member_id in self.machine.removed:
            self._fail(MembershipEnded("this member was removed from the cluster"))
            return
        if self.hub.is_lagging:
            self.catch_up()
        if self.replica.is_leader:
            for body, cause in self._housekeeping.due(self.replica.now_ms):
                self.replica.propose_internal(body, cause)

    def catch_up(self) -> None:
        """Feed lagging watches from memory, and from the database where need be."""
        self._fetches += self.hub.catch_up(CATCH_UP_EVENTS)
        if self._fetches and self._catching_up is None:
            task = asyncio.ensure_future(self._feed())
            self._catching_up = task
            task.add_done_callback(self._fed)

    async def _feed(self) -> None:
        """Read the past from the database, and give it to the watches that wait for it."""
        while self._fetches:
            fetch = self._fetches.popleft()
            rows = await self._persistence.old_revisions(fetch.first, fetch.last)
            # Below the compact revision, revisions may have lost some of their rows by now.
            kept = [row for row in rows if row[0] >= self.keyspace.compact_revision]
            past = self.keyspace.events_of_rows(kept, fetch.prev_kv)
            if past.missing:
                past.fill(await self._persistence.old_values(past.missing))
            self.hub.feed(fetch, past.revisions)

    def _fed(self, task: asyncio.Task[None]) -> None:
        self._catching_up = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        elif (self._fetches or self.hub.is_lagging) and not self.is_stopping:
            asyncio.get_running_loop().call_soon(self.catch_up)


def _log_fault(entry: Entry, error: Exception) -> None:
    _log.error("entry %d could not be applied and was undone", entry.index, exc_info=error)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    """Give an answer to whoever still waits for it."""
    if not answer.done():
        answer.set_result(value)


def _retention(config: Config) -> Retention:
    return Retention(
        age_ms=config.auto_compaction_age_ms,
        revisions=config.auto_compaction_revisions,
        history_bytes=config.history_bytes,
    )
